//! Reading a repository by the rules of the page alone: what each object says, and what is in it. Knows none of the
//! library's parsers.

use std::collections::BTreeMap;

use snapfold::base::{ChunkId, SnapshotId, StageId, Timestamp};
use snapfold::codec::wire::Take;
use snapfold::codec::{KdfCost, Key, Method, compress, kdf};
use snapfold::repo::{Snapshot, Totals};
use snapfold::tree::{Body, Content, DirRef, Meta, Node, Piece, Stamp, Xattr};

use super::PASSWORD;
use super::fields::{Fields, hex};

/// What the rules of the page find in the objects of a repository.
#[derive(Default)]
pub struct Found {
    /// Bytes, field by field, by the label they have in the page.
    pub shown: Vec<(String, String)>,
    pub created: Timestamp,
    pub params: Vec<u64>,
    pub level: i64,
    pub snapshot: Option<Snapshot>,
    /// What index segments say of packs: name, size, and of each block class, sealed length and chunks.
    pub listed: Vec<Listed>,
    pub chunks: BTreeMap<[u8; 32], Vec<u8>>,
    pub root: Option<Node>,
    pub entries: Vec<Node>,
}

pub type Blocks = Vec<(u8, u64, Vec<([u8; 32], u64)>)>;

#[derive(Debug, PartialEq)]
pub struct Listed {
    pub name: String,
    pub size: u64,
    pub blocks: Blocks,
}

struct Secrets {
    repository: [u8; 32],
    chunk_id: [u8; 32],
    index: Key,
    secret: [u8; 32],
}

pub fn read_by_the_page(objects: &BTreeMap<String, Vec<u8>>) -> Found {
    let mut found = Found::default();
    let config = &objects["config"];
    let repository: [u8; 32] = config[18..50].try_into().expect("32 bytes");
    let named = |prefix: &str| -> Vec<(&String, &Vec<u8>)> {
        objects.iter().filter(|(name, _)| name.starts_with(prefix)).collect()
    };
    let (slot_name, slot) = named("keys/")[0];
    let (slot_fields, keys) = keyslot(slot, &repository);
    let (keys_fields, secrets) = repository_keys(&keys, repository);
    let (config_fields, parameters) = the_config(config, &secrets);
    found.shown.push(("config".to_owned(), config_fields));
    let parameters_fields = the_parameters(&parameters, &mut found);
    found.shown.push(("the parameters".to_owned(), parameters_fields));
    found.shown.push((slot_name.clone(), slot_fields));
    found.shown.push(("the keys".to_owned(), keys_fields));
    for (name, pack) in named("packs/") {
        the_pack(name, pack, &secrets, &mut found);
    }
    for (name, segment) in named("index/") {
        the_segment(name, segment, &secrets, &mut found);
    }
    for (name, snapshot) in named("snapshots/") {
        the_snapshot(name, snapshot, &secrets, &mut found);
    }
    found
}

fn the_config(config: &[u8], secrets: &Secrets) -> (String, Vec<u8>) {
    let mut fields = Fields::new(config);
    fields.magic("SNAPFOLD");
    assert_eq!(fields.u16("format version"), 1);
    let features: [u8; 8] = fields.show(|take| take.array(), |bits| format!("features: {}", u64::from_le_bytes(*bits)));
    assert_eq!(features, [0; 8]);
    fields.id("repository id");
    let ad = [b"snapfold config", &config[..50]];
    let plain = fields.sealed(config.len() - 50 - 16, &secrets.index, &ad, "the parameters, encrypted");
    let check = fields.raw(16, "checksum");
    assert_eq!(check, &blake3::hash(&config[..config.len() - 16]).as_bytes()[..16]);
    (fields.end(), plain)
}

fn the_parameters(plain: &[u8], found: &mut Found) -> String {
    let mut fields = Fields::new(plain);
    found.created.secs = fields.signed("made: seconds");
    found.created.nanos = fields.varint("nanoseconds") as u32;
    let what = ["least chunk", "chunk aimed at", "greatest chunk", "block of directories", "of small files"];
    found.params = what.into_iter().chain(["of large files", "pack"]).map(|what| fields.varint(what)).collect();
    found.level = fields.signed("zstd level");
    fields.end()
}

fn keyslot(slot: &[u8], repository: &[u8; 32]) -> (String, Vec<u8>) {
    let mut fields = Fields::new(slot);
    fields.magic("SFKS");
    assert_eq!((fields.u16("version"), fields.u8("kind")), (1, 1));
    let (memory, passes, lanes) = (fields.u32("Argon2id KiB"), fields.u32("passes"), fields.u32("lanes"));
    let salt = fields.id("salt");
    let cost = KdfCost::new(memory, passes, lanes).expect("a cost within bounds");
    let key = kdf::derive(PASSWORD, &salt, cost).expect("memory for the cost");
    let ad = [b"snapfold keyslot", &slot[..51], repository];
    let plain = fields.sealed(slot.len() - 51, &key, &ad, "the keys, encrypted");
    (fields.end(), plain)
}

fn repository_keys(plain: &[u8], repository: [u8; 32]) -> (String, Secrets) {
    let mut fields = Fields::new(plain);
    let (chunk_id, _chunker) = (fields.id("chunk id key"), fields.id("chunker key"));
    let index = Key::from_bytes(fields.id("index key"));
    assert_eq!(fields.varint("key generations"), 1);
    assert_eq!((fields.u32("number"), fields.u8("it is the secret key")), (1, 1));
    let secret = fields.id("X25519 secret key");
    (fields.end(), Secrets { repository, chunk_id, index, secret })
}

fn envelope(fields: &mut Fields<'_>, secrets: &Secrets) -> Key {
    use x25519_dalek::{PublicKey, StaticSecret};
    let start = fields.at();
    assert_eq!(fields.u32("envelope: key generation"), 1);
    let ephemeral = PublicKey::from(fields.id("ephemeral public key"));
    let secret = StaticSecret::from(secrets.secret);
    let (shared, public) = (secret.diffie_hellman(&ephemeral), PublicKey::from(&secret));
    let material = [&shared.as_bytes()[..], ephemeral.as_bytes(), public.as_bytes(), secrets.index.as_bytes()];
    let key = Key::derive("snapfold 1 envelope key", &material);
    let ad = [b"snapfold envelope", &fields.whole[start..start + 36]];
    let plain = fields.sealed(72, &key, &ad, "the data key, encrypted");
    Key::from_bytes(plain.try_into().expect("a data key has 32 bytes"))
}

/// What a padded plaintext holds.
fn unpadded<'a>(plain: &'a [u8]) -> (Fields<'a>, usize) {
    let mut fields = Fields::new(plain);
    let len = fields.u32("length of what follows") as usize;
    (fields, 4 + len)
}

fn the_blocks(fields: &mut Fields<'_>) -> Blocks {
    let count = fields.varint("blocks");
    let block = |fields: &mut Fields<'_>| {
        let (class, sealed, chunks) = (fields.u8("class"), fields.varint("sealed length"), fields.varint("chunks"));
        (class, sealed, (0..chunks).map(|_| (fields.id("chunk id"), fields.varint("its length"))).collect())
    };
    (0..count).map(|_| block(fields)).collect()
}

fn the_pack(name: &str, pack: &[u8], secrets: &Secrets, found: &mut Found) {
    let table_len = u32::from_le_bytes(pack[pack.len() - 8..pack.len() - 4].try_into().expect("4 bytes")) as usize;
    let table_at = pack.len() - 8 - table_len;
    let mut fields = Fields::new(pack);
    fields.magic("SFPK");
    assert_eq!(fields.u16("version"), 1);
    let key = envelope(&mut fields, secrets);
    let ad = [b"snapfold pack table", &secrets.repository[..], &pack[..114]];
    let table = Fields::new(&pack[table_at..pack.len() - 8]).sealed(table_len, &secrets.index, &ad, "");
    let (mut table_fields, end) = unpadded(&table);
    let blocks = the_blocks(&mut table_fields);
    assert_eq!(table_fields.at(), end);
    table_fields.padding();
    let mut shown = Vec::new();
    for (ordinal, (class, sealed_len, chunks)) in (0u32..).zip(&blocks) {
        let ad = [b"snapfold block", &1u16.to_le_bytes()[..], &secrets.repository, &ordinal.to_le_bytes()];
        let plain = fields.sealed(*sealed_len as usize, &key, &ad, "a block, encrypted");
        let mut block = Fields::new(&plain);
        let (method, plain_len, len) = (block.u8("method"), block.u32("plain length"), block.u32("stored length"));
        let stored = block.show(|take| take.raw(len as usize), |_| "the chunks".to_owned());
        block.padding();
        let bytes = match method {
            0 => stored.to_vec(),
            _ => {
                let mut out = Vec::new();
                compress::decompress(Method::Zstd, stored, plain_len as usize, &mut out).expect("zstd");
                out
            }
        };
        assert_eq!(bytes.len(), plain_len as usize);
        let what = if *class == 0 { "the page of the directory" } else { "the data of the file" };
        shown.push((format!("the block with {what}"), block.end()));
        let mut rest = &bytes[..];
        for (id, len) in chunks {
            let (chunk, after) = rest.split_at(*len as usize);
            assert_eq!(blake3::keyed_hash(&secrets.chunk_id, chunk).as_bytes(), id);
            found.chunks.insert(*id, chunk.to_vec());
            if *class == 0 {
                let (text, entries) = page(chunk);
                shown.push(("the page".to_owned(), text));
                found.entries = entries;
            }
            rest = after;
        }
    }
    fields.sealed(table_len, &secrets.index, &ad, "the table, encrypted");
    fields.u32("length of the sealed table");
    fields.magic("KPFS");
    found.shown.push((name.to_owned(), fields.end()));
    let what = if blocks[0].0 == 0 { "directories" } else { "files" };
    found.shown.push((format!("the table of the pack of {what}"), table_fields.end()));
    found.shown.append(&mut shown);
}

fn the_segment(name: &str, segment: &[u8], secrets: &Secrets, found: &mut Found) {
    let mut fields = Fields::new(segment);
    fields.magic("SFIX");
    assert_eq!(fields.u16("version"), 1);
    let ad = [b"snapfold index segment", &1u16.to_le_bytes()[..], &secrets.repository];
    let plain = fields.sealed(segment.len() - 6, &secrets.index, &ad, "the entries, encrypted");
    found.shown.push((name.to_owned(), fields.end()));
    let (mut fields, end) = unpadded(&plain);
    while fields.at() < end {
        let name = hex(&fields.id("pack"));
        let size = fields.varint("its length");
        fields.raw(108, "its envelope");
        found.listed.push(Listed { name, size, blocks: the_blocks(&mut fields) });
    }
    assert_eq!(fields.at(), end);
    fields.padding();
    found.shown.push(("the entries".to_owned(), fields.end()));
}

fn the_snapshot(name: &str, snapshot: &[u8], secrets: &Secrets, found: &mut Found) {
    let mut fields = Fields::new(snapshot);
    fields.magic("SFSN");
    assert_eq!(fields.u16("version"), 1);
    let key = envelope(&mut fields, secrets);
    let ad = [b"snapfold snapshot", &1u16.to_le_bytes()[..], &secrets.repository];
    let plain = fields.sealed(snapshot.len() - 114, &key, &ad, "what it says, encrypted");
    found.shown.push((name.to_owned(), fields.end()));
    let (mut fields, end) = unpadded(&plain);
    let time = Timestamp { secs: fields.signed("time: seconds"), nanos: fields.varint("nanoseconds") as u32 };
    let (host, user) = (fields.bytes("host").to_vec(), fields.bytes("user").to_vec());
    let paths = (0..fields.varint("paths")).map(|_| fields.bytes("path").to_vec()).collect();
    let tag = |fields: &mut Fields<'_>| String::from_utf8(fields.bytes("tag").to_vec()).expect("UTF-8");
    let tags = (0..fields.varint("tags")).map(|_| tag(&mut fields)).collect();
    let parent = fields.option("parent").map(SnapshotId);
    let stage = fields.option("stage").map(StageId);
    let mut totals = Totals {
        files: fields.varint("files"),
        dirs: fields.varint("directories"),
        bytes: fields.varint("bytes of files"),
        bytes_new: fields.varint("bytes that were new"),
        bytes_stored: fields.varint("bytes stored"),
        problems: fields.varint("paths left out"),
        with_xattrs: None,
    };
    let program = String::from_utf8(fields.bytes("program").to_vec()).expect("UTF-8");
    let duration_ms = fields.varint("milliseconds it took");
    let len = fields.varint("the root: bytes") as usize;
    let start = fields.at();
    found.root = Some(node(&mut fields));
    assert_eq!(fields.at(), start + len);
    let root = plain[start..start + len].to_vec();
    if fields.at() < end {
        totals.with_xattrs = Some(fields.varint("entries with extended attributes"));
    }
    assert_eq!(fields.at(), end);
    fields.padding();
    found.shown.push(("what the snapshot says".to_owned(), fields.end()));
    found.snapshot =
        Some(Snapshot { time, host, user, paths, tags, parent, root, totals, program, stage, duration_ms });
}

fn page(chunk: &[u8]) -> (String, Vec<Node>) {
    let mut fields = Fields::new(chunk);
    assert_eq!(fields.u8("level"), 0);
    let entries = (0..fields.varint("entries")).map(|_| node(&mut fields)).collect();
    (fields.end(), entries)
}

fn node(fields: &mut Fields<'_>) -> Node {
    let name = fields.bytes("name").to_vec();
    let flags = fields.show(Take::u8, |flags| format!("kind {}, flags 0x{:02x}", flags & 7, flags & !7));
    let mode = fields.show(Take::u16, |mode| format!("mode: 0{mode:o}")).into();
    let (uid, gid) = (fields.varint("user") as u32, fields.varint("group") as u32);
    let (user, group) = (fields.bytes("user's name").to_vec(), fields.bytes("group's name").to_vec());
    let mtime = Timestamp { secs: fields.signed("modified: seconds"), nanos: fields.u32("nanoseconds") };
    let nlink = fields.varint("names") as u32;
    let (size, blocks) = (fields.varint("size"), fields.varint("blocks of 512 bytes"));
    let link = (flags & 0x08 != 0).then(|| fields.varint("link id"));
    let stamp = (flags & 0x10 != 0).then(|| {
        let secs = mtime.secs + fields.signed("changed: seconds later");
        let ctime = Timestamp { secs, nanos: fields.u32("nanoseconds") };
        Stamp { ctime, inode: fields.varint("inode number") }
    });
    let mut xattrs = Vec::new();
    if flags & 0x20 != 0 {
        for _ in 0..fields.varint("extended attributes") {
            xattrs.push(Xattr { name: fields.bytes("name").to_vec(), value: fields.bytes("value").to_vec() });
        }
    }
    let body = match flags & 7 {
        0 => {
            let level = fields.u8("pieces: level");
            let piece = |fields: &mut Fields<'_>| {
                let number = fields.show(Take::varint, |number| {
                    let hole = if number & 1 == 0 { "no hole" } else { "a hole" };
                    format!("length: {}, {hole}", number >> 1)
                });
                let sparse = number & 1 != 0;
                let id = (level > 0 || !sparse).then(|| ChunkId(fields.id("chunk id")));
                Piece { len: number >> 1, id, sparse }
            };
            let pieces = (0..fields.varint("pieces")).map(|_| piece(fields)).collect();
            Body::File(Content { level, pieces })
        }
        1 => Body::Dir(DirRef {
            id: ChunkId(fields.id("root page")),
            entries: fields.varint("entries"),
            nodes: fields.varint("entries of all below"),
            bytes: fields.varint("bytes of files below"),
        }),
        kind => panic!("the example has no kind {kind}"),
    };
    let meta = Meta { mode, uid, gid, user, group, mtime, nlink, size, blocks, xattrs, link, stamp };
    Node { name, meta, body }
}
