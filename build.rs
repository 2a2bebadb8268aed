//! Tells the linker where the `xebec` program begins: src/sys/door.rs, on machines that have one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo:rustc-link-arg-bin=xebec=-Wl,-e,xebec_entry");
    }
}
