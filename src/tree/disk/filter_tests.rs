use std::ffi::OsString;
use std::fs;

use super::tests::{filters, walk};
use super::*;
use crate::tree::FilterOptions;

fn paths(options: FilterOptions, roots: &[PathBuf]) -> Vec<String> {
    let source = DiskSource::new(roots, filters(options)).unwrap();
    let (all, errors) = walk(&source);
    assert!(errors.is_empty(), "{errors:?}");
    all.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

fn tree(base: &Path, files: &[&str]) {
    for file in files {
        let path = base.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !file.ends_with('/') {
            fs::write(path, file).unwrap();
        } else {
            fs::create_dir_all(path).unwrap();
        }
    }
}

fn strings(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

#[test]
fn patterns_leave_out_names_paths_and_what_is_below() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    tree(&base, &["a.o", "a.c", "src/b.o", "src/keep.o", "target/x", "src/target/y", "Cache/z", "docs/deep/er/note"]);
    let all = |exclude: &[&str], iexclude: &[&str]| {
        let options =
            FilterOptions { exclude: strings(exclude), iexclude: strings(iexclude), ..FilterOptions::default() };
        paths(options, std::slice::from_ref(&base))
    };
    let rooted = format!("{}/target", base.display());
    assert_eq!(
        all(&["*.o", "!keep.o", &rooted, "docs/**/note"], &["cache"]),
        ["a.c", "docs", "docs/deep", "docs/deep/er", "src", "src/keep.o", "src/target", "src/target/y"]
    );
    assert!(all(&["*"], &[]).is_empty());
    assert_eq!(all(&["*", "!src"], &[]), ["src", "src/b.o", "src/keep.o", "src/target", "src/target/y"]);
}

#[test]
fn patterns_match_the_path_that_was_named_and_the_real_one() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    tree(&base, &["real/a", "real/b", "real/c"]);
    std::os::unix::fs::symlink("real", base.join("link")).unwrap();
    let exclude = ["link/a", "real/b"].map(|path| base.join(path).into_os_string()).to_vec();
    let options = FilterOptions { exclude, ..FilterOptions::default() };
    assert_eq!(paths(options, &[base.join("link")]), ["c"]);
}

#[test]
fn marked_directories_and_large_files_are_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    tree(
        &base,
        &["cache/big", "cache/sub/x", "fake/x", "skip/x", "skip/.nobackup", "wrong/x", "wrong/.mark", "right/x"],
    );
    fs::write(base.join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n# more").unwrap();
    fs::write(base.join("fake/CACHEDIR.TAG"), b"Signature: none").unwrap();
    fs::write(base.join("right/.mark"), b"magic words").unwrap();
    fs::write(base.join("right/large"), vec![0; 101]).unwrap();
    fs::write(base.join("large"), vec![0; 101]).unwrap();
    fs::write(base.join("just"), vec![0; 100]).unwrap();
    let options = FilterOptions {
        exclude_caches: true,
        exclude_if_present: strings(&[".nobackup", ".mark:magic"]),
        exclude_larger_than: Some(100),
        ..FilterOptions::default()
    };
    assert_eq!(
        paths(options, &[base]),
        [
            "cache",
            "cache/CACHEDIR.TAG",
            "fake",
            "fake/CACHEDIR.TAG",
            "fake/x",
            "just",
            "right",
            "right/.mark",
            "skip",
            "skip/.nobackup",
            "wrong",
            "wrong/.mark",
            "wrong/x"
        ]
    );
}

#[test]
fn gitignore_files_are_honoured_where_they_lie() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    tree(
        &base,
        &["a.log", "b.txt", "build/x", "src/build", "src/a.log", "src/c.log", "src/deep/a.log", "src/deep/tmp/x"],
    );
    fs::write(base.join(".gitignore"), b"# comment\n*.log\n/build/\n").unwrap();
    fs::write(base.join("src/.gitignore"), b"!a.log\r\ntmp/\n").unwrap();
    let options = |name: &str| FilterOptions { ignore_files: strings(&[name]), ..FilterOptions::default() };
    assert_eq!(
        paths(options(".gitignore"), std::slice::from_ref(&base)),
        [".gitignore", "b.txt", "src", "src/.gitignore", "src/a.log", "src/build", "src/deep", "src/deep/a.log"]
    );
    assert_eq!(paths(options(".otherignore"), std::slice::from_ref(&base)).len(), 14);
    // Lines that mean nothing are told, and the others count.
    fs::write(base.join(".gitignore"), b"*.log\n\xff\n[\n").unwrap();
    let source = DiskSource::new(std::slice::from_ref(&base), filters(options(".gitignore"))).unwrap();
    let (all, errors) = walk(&source);
    assert!(!all.contains_key(&b"a.log"[..]));
    assert!(!errors.is_empty() && errors.iter().all(TreeError::is_local), "{errors:?}");
}

#[test]
fn several_named_paths_are_listed_below_what_they_have_in_common() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    tree(&base, &["home/ann/work/a", "home/ann/other", "home/bob/b", "home/eve/c", "etc/conf", "etc/d/e"]);
    let at = |list: &[&str]| list.iter().map(|path| base.join(path)).collect::<Vec<_>>();
    assert_eq!(
        paths(FilterOptions::default(), &at(&["home/ann/work", "home/bob", "etc/conf"])),
        ["etc", "etc/conf", "home", "home/ann", "home/ann/work", "home/ann/work/a", "home/bob", "home/bob/b"]
    );
    assert_eq!(paths(FilterOptions::default(), &at(&["etc/conf"])), ["conf"]);
    // What is on the way is not up for patterns; what is named is.
    let options = FilterOptions { exclude: strings(&["home", "bob"]), ..FilterOptions::default() };
    assert_eq!(paths(options, &at(&["home/ann/other", "home/bob"])), ["ann", "ann/other"]);
    let source = DiskSource::new(&at(&["etc/conf", "gone/x", "home/bob"]), filters(FilterOptions::default())).unwrap();
    let (all, errors) = walk(&source);
    assert_eq!((all.len(), errors.len()), (5, 1));
    assert!(errors[0].to_string().contains("gone/x"));
}

#[test]
fn other_filesystems_stay_out_on_demand() {
    // `/proc` below `/` is another filesystem wherever this runs.
    let options = FilterOptions { one_file_system: true, ..FilterOptions::default() };
    let source = DiskSource::new(&["/".into()], filters(options)).unwrap();
    let root = source.root().unwrap();
    let listing: Vec<_> = source.list(&root).unwrap().map(Result::unwrap).collect();
    let proc = listing.iter().find(|entry| entry.node.name == b"proc").unwrap();
    assert_eq!(source.list(proc).unwrap().count(), 0);
    let etc = listing.iter().find(|entry| entry.node.name == b"etc").unwrap();
    assert!(source.list(etc).unwrap().count() > 0);
    // A path that is named brings its own filesystem.
    let options = FilterOptions { one_file_system: true, ..FilterOptions::default() };
    let source = DiskSource::new(&["/proc/self/status".into(), "/etc/passwd".into()], filters(options)).unwrap();
    assert!(walk(&source).0.keys().any(|path| path.ends_with(b"/status")));
}
