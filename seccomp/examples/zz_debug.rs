#[path = "../tests/oracle/mod.rs"]
mod oracle;
use xebec_seccomp::*;
fn main() {
    let mut a = std::env::args().skip(1);
    let native = Arch::from_spec_name(&a.next().unwrap()).unwrap();
    let text = a.next().unwrap();
    let p: Profile<'_> = serde_json::from_str(&text).unwrap();
    println!("THEIRS");
    let t = oracle::oracle(&p, native, 1);
    match t {
        Ok(t) => print!("{}", bpf::disassemble(&t, native.is_big_endian())),
        Err(e) => println!("{e}"),
    }
    println!("OURS");
    match compile(
        &p,
        &Options {
            native,
            enosys_stub: false,
            ..Options::default()
        },
    ) {
        Ok(f) => print!("{}", bpf::disassemble(&f.program, native.is_big_endian())),
        Err(e) => println!("{e}"),
    }
}
