//! Giving objects content addresses: each is rewritten to refer to the rewritten forms of what it refers to.

use crate::closure::{ClosureOptions, compute_fs_closure, topo_sort_paths};
use crate::error::{StoreError, StoreResult};
use crate::export::BlockingWriter;
use crate::traits::Store;
use firn_core::store_path::References;
use firn_core::{CaMethod, ContentAddress, HashAlgo, StorePath, ValidPathInfo};
use firn_nar::{HashSink, ModuloHasher, NarError, Rewriter};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of an archive on their way at a time.
const PIECE: usize = 256 * 1024;

/// Texts and what stands for them, of the same length.
type Rules = Vec<(String, String)>;

/// Adds the closure of `paths` to `to` in content-addressed form; returns which path became which. Archives are read
/// three times rather than kept.
pub async fn make_content_addressed(
    from: &dyn Store,
    to: &dyn Store,
    paths: &BTreeSet<StorePath>,
    mut tell: impl FnMut(&StorePath, &StorePath),
) -> StoreResult<BTreeMap<StorePath, StorePath>> {
    let closure = compute_fs_closure(from, paths, ClosureOptions::default()).await?;
    let mut order = topo_sort_paths(from, &closure).await?;
    order.reverse();
    let mut renamed: BTreeMap<StorePath, StorePath> = BTreeMap::new();
    for path in order {
        let old = from.query_path_info(&path).await?;
        let old = old.ok_or_else(|| StoreError::InvalidPath { path: from.store_dir().display(&path) })?;
        let mut rules = Rules::new();
        let mut references = References::default();
        for reference in &old.references {
            if *reference == path {
                references.self_reference = true;
                continue;
            }
            let new = renamed.get(reference).unwrap_or(reference).clone();
            if new != *reference {
                rules.push((from.store_dir().display(reference), to.store_dir().display(&new)));
            }
            references.others.insert(new);
        }
        let mut info = readdressed(from, to, &path, &rules, references).await?;
        rules.push((path.hash_part().to_owned(), info.path.hash_part().to_owned()));
        let hashing = HashSink::new(HashAlgo::Sha256);
        (info.nar_hash, info.nar_size) = rewrite(from, &path, &rules, hashing).await?.finish();
        tell(&path, &info.path);
        add(from, to, &path, &rules, &info).await?;
        renamed.insert(path, info.path);
    }
    Ok(renamed)
}

/// The path that the object gets, from its content with itself left out.
async fn readdressed(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    rules: &Rules,
    references: References,
) -> StoreResult<ValidPathInfo> {
    let hasher = ModuloHasher::new(HashAlgo::Sha256, path.hash_part()).map_err(NarError::Write)?;
    let (hash, size) = rewrite(from, path, rules, hasher).await?.finish().map_err(NarError::Write)?;
    let ca = ContentAddress { method: CaMethod::NixArchive, hash };
    let new = to.store_dir().make_fixed_output_path(&ca, path.name(), &references)?;
    let mut info = ValidPathInfo::new(new.clone(), hash, size);
    info.references = references.others;
    if references.self_reference {
        info.references.insert(new);
    }
    info.ca = Some(ca);
    Ok(info)
}

fn rewriter<W: Write>(rules: &Rules, out: W) -> StoreResult<Rewriter<W>> {
    let rules = rules.iter().map(|(from, to)| (from.as_bytes(), to.as_bytes()));
    Ok(Rewriter::new(rules, out).map_err(NarError::Write)?)
}

/// Passes the rewritten archive to `sink`.
async fn rewrite<W: Write + Send + Unpin>(
    from: &dyn Store,
    path: &StorePath,
    rules: &Rules,
    sink: W,
) -> StoreResult<W> {
    let mut out = BlockingWriter(rewriter(rules, sink)?);
    from.nar_from_path(path, &mut out).await?;
    Ok(out.0.finish().map_err(NarError::Write)?.0)
}

async fn add(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    rules: &Rules,
    info: &ValidPathInfo,
) -> StoreResult<()> {
    let (mut old_reader, mut old_writer) = tokio::io::duplex(PIECE);
    let (new_reader, mut new_writer) = tokio::io::duplex(PIECE);
    let read = async {
        let result = from.nar_from_path(path, &mut old_writer).await;
        drop(old_writer);
        result
    };
    let pass = async {
        let mut rewriter = rewriter(rules, Vec::new())?;
        let mut piece = vec![0; PIECE];
        let result: io::Result<()> = async {
            loop {
                let n = old_reader.read(&mut piece).await?;
                if n == 0 {
                    let (rest, ..) = rewriter.finish()?;
                    return new_writer.write_all(&rest).await;
                }
                rewriter.write_all(&piece[..n])?;
                let done = std::mem::take(rewriter.get_mut());
                new_writer.write_all(&done).await?;
            }
        }
        .await;
        drop(new_writer);
        result.map_err(|error| StoreError::from(NarError::Write(error)))
    };
    let write = async move {
        let mut reader = new_reader;
        to.add_nar(info, &mut reader, false, false).await
    };
    let (read, passed, written) = tokio::join!(read, pass, write);
    read?;
    written?;
    // A path that was there already is not read to its end.
    let _ = passed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use firn_nar::NarWriter;

    #[tokio::test]
    async fn rewrites_references_and_itself() {
        let store = MemoryStore::default();
        let input = StorePath::from_base_name(&format!("{}-input", "1".repeat(32))).unwrap();
        let user = StorePath::from_base_name(&format!("{}-user", "2".repeat(32))).unwrap();
        let dir = store.store_dir().clone();
        let add = async |path: &StorePath, text: String, references: BTreeSet<StorePath>| {
            let mut writer = NarWriter::new(Vec::new());
            writer.regular(b"", false, text.as_bytes()).unwrap();
            let nar = writer.finish().unwrap();
            let hash = firn_core::Hash::of(HashAlgo::Sha256, &nar);
            let mut info = ValidPathInfo::new(path.clone(), hash, nar.len() as u64);
            info.references = references;
            store.add_nar(&info, &mut &nar[..], false, false).await.unwrap();
        };
        add(&input, "hello".into(), BTreeSet::new()).await;
        let text = format!("{} and {}", dir.display(&input), dir.display(&user));
        add(&user, text, [input.clone(), user.clone()].into()).await;
        let renamed =
            make_content_addressed(&store, &store, &[user.clone()].into(), |_, _| ()).await.unwrap();
        let (new_input, new_user) = (&renamed[&input], &renamed[&user]);
        let info = store.query_path_info(new_user).await.unwrap().unwrap();
        assert!(info.is_content_addressed(&dir));
        assert_eq!(info.references, [new_input.clone(), new_user.clone()].into());
        let mut nar = Vec::new();
        store.nar_from_path(new_user, &mut nar).await.unwrap();
        let text = String::from_utf8(crate::memory::file_of_nar(&nar).unwrap()).unwrap();
        assert_eq!(text, format!("{} and {}", dir.display(new_input), dir.display(new_user)));
        // The same object gives the same address again.
        let again = make_content_addressed(&store, &store, &[new_user.clone()].into(), |_, _| ()).await;
        assert_eq!(again.unwrap()[new_user], *new_user);
    }
}
