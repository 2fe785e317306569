//! A limiter that is a program of its own, with a configuration in a folder of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

/// A running program. It is killed when this is dropped.
pub struct Server {
    addr: SocketAddr,
    process: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts a program as one process. `configuration` gets the address and the folder; `arguments` get the file and the
    /// folder.
    ///
    /// # Errors
    ///
    /// The reason, if this computer has no such program.
    pub fn start(
        program: &str,
        configuration: impl FnOnce(SocketAddr, &Path) -> String,
        arguments: impl FnOnce(&mut Command, &Path, &Path),
    ) -> Result<Server, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{program}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // The port is free when the program binds it, unless another program is faster.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let file = folder.join("configuration");
        fs::write(&file, configuration(addr, &folder)).unwrap();
        let mut command = Command::new(program);
        arguments(&mut command, &file, &folder);
        let process = match command.stdin(Stdio::null()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(&folder);
                return Err(format!("there is no {program} in the path"));
            }
            Err(error) => panic!("{program} does not start: {error}"),
        };
        let server = Server { addr, process, folder };
        server.await_listening();
        Ok(server)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn await_listening(&self) {
        for _ in 0..500 {
            if TcpStream::connect(self.addr).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nothing listens on {}", self.addr);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
