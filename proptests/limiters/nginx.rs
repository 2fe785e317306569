//! nginx with `limit_req`. It refuses with 429, and with the `Retry-After: 1` that its configuration adds: without it
//! there is no hint.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

use crate::workers::Limit;

/// A running nginx. It is killed when this is dropped.
pub struct Server {
    addr: SocketAddr,
    process: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts nginx in a folder of its own, as one process.
    ///
    /// # Errors
    ///
    /// The reason, if this computer has no nginx.
    pub fn start(limit: Limit) -> Result<Server, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ok"), "ok").unwrap();
        // The port is free when nginx binds it, unless another program is faster.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        fs::write(folder.join("nginx.conf"), configuration(limit, addr, &folder)).unwrap();
        let process = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(folder.join("nginx.conf"))
            .arg("-p")
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(&folder);
                return Err("there is no nginx in the path".into());
            }
            Err(error) => panic!("nginx does not start: {error}"),
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
        panic!("nginx does not listen on {}", self.addr);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(limit: Limit, addr: SocketAddr, folder: &Path) -> String {
    let Limit { per_second, burst } = limit;
    let folder = folder.display();
    // `limit_req` comes before files are served, but after `return`: so the answer is a file. It counts the request
    // beside the burst, and so allows one more.
    let burst = burst - 1;
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    limit_req_zone $server_name zone=all:1m rate={per_second}r/s;
    limit_req_status 429;
    limit_req_log_level info;
    server {{
        listen {addr};
        server_name all;
        root {folder};
        location / {{ limit_req zone=all burst={burst} nodelay; }}
        error_page 429 @limited;
        location @limited {{
            add_header Retry-After 1 always;
            return 429;
        }}
    }}
}}
"
    )
}
