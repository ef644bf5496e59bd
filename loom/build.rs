//! Says to the files of `src/shared` that loom looks at them. A cfg of our own and of this package alone,
//! so that dependencies (crossbeam-utils among them) are not switched to loom too.

fn main() {
    println!("cargo::rustc-cfg=hotspan_loom");
}
