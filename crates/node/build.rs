//! Link arguments that a Node add-on needs.

fn main() {
    napi_build::setup();
    // Threads and thread-local destructors outlive a worker that was the only one to load the add-on,
    // so its code must stay mapped. napi-build says this for glibc only.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
