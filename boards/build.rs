//! Every board's: links the image by the script that all boards share. It is position independent
//! and relocates itself, with the MMU off: so there is no loader to name, and
//! constants that hold addresses may lie where nobody can write later (`notext`).

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel/arch/image.ld");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    for argument in [
        "--pie",
        "--no-dynamic-linker",
        "-znotext",
        "-znorelro",
        "-zmax-page-size=4096",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
