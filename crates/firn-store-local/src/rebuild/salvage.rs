//! What can be read of a database that may be torn.

use crate::store::LocalStore;
use firn_core::{ContentAddress, Hash, StorePath, ValidPathInfo};
use rusqlite::{Connection, OpenFlags, Row};
use std::collections::BTreeMap;
use std::path::Path;

/// The rows that can be read, as far as they can be. References are left to the disk, which has them for sure.
pub(super) fn read(store: &LocalStore, old: &Path) -> BTreeMap<StorePath, ValidPathInfo> {
    let mut infos = BTreeMap::new();
    // Not read-only: the write-ahead log belongs to it.
    let Ok(connection) =
        Connection::open_with_flags(old.join("db.sqlite"), OpenFlags::SQLITE_OPEN_READ_WRITE)
    else {
        return infos;
    };
    let sql = "select path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca from ValidPaths";
    let Ok(mut statement) = connection.prepare(sql) else { return infos };
    let Ok(mut rows) = statement.query([]) else { return infos };
    // The first page that cannot be read ends it.
    while let Ok(Some(row)) = rows.next() {
        if let Some(info) = parse(store, row) {
            infos.insert(info.path.clone(), info);
        }
    }
    infos
}

fn parse(store: &LocalStore, row: &Row<'_>) -> Option<ValidPathInfo> {
    let text = |index: usize| row.get::<_, Option<String>>(index).ok().flatten().filter(|t| !t.is_empty());
    let path = store.dir().parse(&text(0)?).ok()?;
    let hash = Hash::parse_any_prefixed(&text(1)?).ok()?;
    let number = |index: usize| row.get::<_, Option<i64>>(index).ok().flatten();
    let mut info = ValidPathInfo::new(path, hash, number(4).and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
    info.registration_time = number(2).unwrap_or(0);
    info.deriver = text(3).and_then(|text| store.dir().parse(&text).ok());
    info.ultimate = number(5) == Some(1);
    info.signatures = text(6).iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
    info.ca = text(7).and_then(|text| ContentAddress::parse(&text).ok());
    Some(info)
}
