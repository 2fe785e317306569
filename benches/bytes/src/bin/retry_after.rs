//! Decisions on the status and `Retry-After`, which the crate reads in all its forms.

#![cfg_attr(target_os = "none", no_std, no_main)]

bytes::program!(run);

fn run() -> ! {
    bytes::decisions(|policy| {
        let mut reader = policy.reader(None, bytes::any());
        if bytes::any() {
            reader.feed(b"retry-after", bytes::any());
        }
        reader.finish()
    })
}
