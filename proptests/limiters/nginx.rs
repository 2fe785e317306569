//! nginx with `limit_req`. It refuses with 429, and with the `Retry-After: 1` that its configuration adds: without it
//! there is no hint.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::process::Server;
use crate::workers::Limit;

/// Starts nginx.
///
/// # Errors
///
/// The reason, if this computer has no nginx.
pub fn start(limit: Limit) -> Result<Server, String> {
    Server::start(
        "nginx",
        |addr, folder| configuration(limit, addr, folder),
        |nginx, file, folder| {
            nginx.args(["-e", "stderr", "-c"]).arg(file).arg("-p").arg(folder);
        },
    )
}

fn configuration(limit: Limit, addr: SocketAddr, folder: &Path) -> String {
    fs::write(folder.join("ok"), "ok").unwrap();
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
