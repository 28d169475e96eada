//! Tells the linker where the finished programs find libtorch: beside the binary in a packaged
//! folder (`lib/`), in the repository's own `libtorch/`, or in the folder that `LIBTORCH` names.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let origin = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        Ok("windows") => return,
        _ => "$ORIGIN",
    };
    // target/<profile>/easel, target/<profile>/deps/<test>, dist/easel
    for folder in ["lib", "../../libtorch/lib", "../../../libtorch/lib"] {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{origin}/{folder}");
    }
    if let Some(own) = std::env::var_os("LIBTORCH") {
        let lib = PathBuf::from(own).join("lib");
        let repository = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
        if lib != repository.join("libtorch/lib") {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
        }
    }
}
