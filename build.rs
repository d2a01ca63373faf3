//! Links the options of the allocator. jemalloc looks for them in a symbol, which Rust can define only with `unsafe`.

fn main() {
    println!("cargo::rerun-if-changed=src/allocator_options.c");
    // Link it as an object of the program: out of a library it would not replace jemalloc's own, weak symbol.
    for object in cc::Build::new().file("src/allocator_options.c").compile_intermediates() {
        println!("cargo::rustc-link-arg={}", object.display());
    }
}
