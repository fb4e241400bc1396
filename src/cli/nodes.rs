//! How nodes are shown: as `ls -l` would, and as JSON. Knows nothing of where they come from.

use super::output::{Object, shown, shown_time};
use crate::tree::{Body, Node};

/// restic's words for kinds of nodes.
pub fn kind(node: &Node) -> &'static str {
    match node.body {
        Body::File(_) => "file",
        Body::Dir(_) => "dir",
        Body::Symlink(_) => "symlink",
        Body::BlockDevice(_) => "dev",
        Body::CharDevice(_) => "chardev",
        Body::Fifo => "fifo",
        Body::Socket => "socket",
    }
}

/// `drwxr-sr-t`
pub fn mode_text(node: &Node) -> String {
    let kind = match node.body {
        Body::File(_) => '-',
        Body::Dir(_) => 'd',
        Body::Symlink(_) => 'l',
        Body::BlockDevice(_) => 'b',
        Body::CharDevice(_) => 'c',
        Body::Fifo => 'p',
        Body::Socket => 's',
    };
    let mode = node.meta.mode;
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, set, set_only) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => set_only,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn owner(name: &[u8], number: u32) -> String {
    if name.is_empty() { number.to_string() } else { shown(name) }
}

/// One line of a long listing.
pub fn long_line(path: &[u8], node: &Node) -> String {
    let size = match node.body {
        Body::BlockDevice(rdev) | Body::CharDevice(rdev) => format!("{}, {}", libc::major(rdev), libc::minor(rdev)),
        Body::File(_) => node.meta.size.to_string(),
        _ => "0".to_owned(),
    };
    let target = match &node.body {
        Body::Symlink(target) => format!(" -> {}", shown(target)),
        _ => String::new(),
    };
    format!(
        "{} {:8} {:8} {size:>12} {} {}{target}",
        mode_text(node),
        owner(&node.meta.user, node.meta.uid),
        owner(&node.meta.group, node.meta.gid),
        shown_time(node.meta.mtime),
        shown(path)
    )
}

/// What JSON says of a node, put after the members of `object`. `path` is within the snapshot.
pub fn node_json(object: Object, path: &[u8], node: &Node) -> Object {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let object = object
        .text("name", "name_hex", name)
        .put("type", kind(node))
        .path(path)
        .put("uid", node.meta.uid)
        .put("gid", node.meta.gid)
        .text("user", "user_hex", &node.meta.user)
        .text("group", "group_hex", &node.meta.group)
        .put("mode", format!("{:04o}", node.meta.mode))
        .put("permissions", mode_text(node))
        .time("mtime", node.meta.mtime)
        .put("links", node.meta.nlink);
    match &node.body {
        Body::File(_) => object.put("size", node.meta.size),
        Body::Symlink(target) => object.text("linktarget", "linktarget_hex", target),
        Body::BlockDevice(rdev) | Body::CharDevice(rdev) => {
            object.put("device_major", libc::major(*rdev)).put("device_minor", libc::minor(*rdev))
        }
        Body::Dir(dir) => object.put("entries", dir.entries),
        Body::Fifo | Body::Socket => object,
    }
}

/// `/` and the path within a snapshot: how people are shown it, and how they may write it.
pub fn rooted(path: &[u8]) -> Vec<u8> {
    let mut rooted = Vec::with_capacity(path.len() + 1);
    rooted.push(b'/');
    rooted.extend_from_slice(path.strip_prefix(b"/").unwrap_or(path));
    rooted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::tree::{Content, Meta};

    fn node(mode: u32, body: Body) -> Node {
        let meta = Meta { mode, uid: 7, user: b"me".to_vec(), mtime: Timestamp::new(0, 5), size: 9, ..Meta::default() };
        Node { name: b"x".to_vec(), meta, body }
    }

    #[test]
    fn modes_read_as_ls_shows_them() {
        let file = |mode| mode_text(&node(mode, Body::File(Content::default())));
        assert_eq!(file(0o644), "-rw-r--r--");
        assert_eq!(file(0o6755), "-rwsr-sr-x");
        assert_eq!(file(0o7000), "---S--S--T");
        assert_eq!(mode_text(&node(0o1777, Body::Fifo)), "prwxrwxrwt");
    }

    #[test]
    fn a_long_line_has_owners_by_name_where_known() {
        let line = long_line(b"a\n", &node(0o777, Body::Symlink(b"to\\".to_vec())));
        assert!(line.starts_with("lrwxrwxrwx me       0  "), "{line}");
        assert!(line.ends_with(" a\\n -> to\\\\"), "{line}");
    }

    #[test]
    fn json_has_what_a_kind_has() {
        let text = |body| serde_json::to_string(&node_json(Object::new(), b"/d/x", &node(0o600, body))).unwrap();
        let file = text(Body::File(Content::default()));
        assert!(file.contains(r#""name":"x","type":"file","path":"/d/x""#) && file.contains(r#""size":9"#), "{file}");
        assert!(text(Body::CharDevice(0x103)).contains(r#""device_major":1,"device_minor":3"#));
        assert!(text(Body::Symlink(b"\xff".to_vec())).contains(r#""linktarget_hex":"ff""#));
    }
}
