//! Binary caches give the answers that every store must give, as far as they know them.

use crate::world::cache;
use firn_testkit::conformance::{Lacks, check_store};
use firn_testkit::servers::{Served, has_program};

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = cache(&format!("file://{}", dir.path().display()), None);
    check_store(&store, Lacks { referrers: true, ..Lacks::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_http() {
    if !has_program("nginx") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // Workers may run as somebody else.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&root, everybody).unwrap();
    let server = Served::nginx(dir.path(), &root, "dav_methods PUT;\ncreate_full_put_path on;");
    let store = cache(&server.url(), None);
    check_store(&store, Lacks { referrers: true, listing: true, ..Lacks::default() }).await;
}
