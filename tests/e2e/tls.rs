//! A bucket behind TLS: whose certificates are trusted, and what is said of all others.

use crate::harness::bucket::server;
use crate::harness::proxy::Proxy;
use crate::harness::{INIT, World, run, shell};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const FAILED: i32 = 1;

/// Certificates, in a directory of their own.
struct Certificates(PathBuf);

impl Certificates {
    /// Makes an authority by that name, and gives its certificate.
    fn authority(&self, name: &str) -> String {
        self.request(name, "basicConstraints=critical,CA:TRUE", &[]);
        self.path(&format!("{name}.pem")).to_str().expect("UTF-8").to_owned()
    }

    /// What serves with a certificate for `name` by the authority `by`.
    fn server(&self, by: &str, name: &str) -> ServerConfig {
        let (certificate, key) = (format!("{by}.pem"), format!("{by}.key"));
        let extensions = format!("basicConstraints=critical,CA:FALSE\nsubjectAltName={name}");
        self.request("server", &extensions, &["-CA", &certificate, "-CAkey", &key]);
        let chain = CertificateDer::pem_file_iter(self.path("server.pem")).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a key");
        // Fails where it was done before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a certificate and its key")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn request(&self, name: &str, extensions: &str, flags: &[&str]) {
        let config = format!("[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n{extensions}\n");
        std::fs::write(self.path("config"), config).expect("write");
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-config", "config", "-days", "2", "-subj", &format!("/CN={name}")])
            .args(["-out", &format!("{name}.pem"), "-keyout", &format!("{name}.key")])
            .args(flags)
            .current_dir(&self.0);
        run(&mut openssl).good();
    }
}

#[test]
fn a_server_whose_certificate_is_trusted_has_repositories() {
    let Some(url) = server() else { return };
    let mut world = World::in_bucket(url);
    let certificates = Certificates(world.mkdir("certificates"));
    let ours = certificates.authority("ours");
    let proxy = Proxy::with_tls(url, certificates.server("ours", "IP:127.0.0.1"));
    let place = world.location().replace(url, proxy.url());
    world.set("SNAPFOLD_REPOSITORY", place);
    world.ok(&[INIT, &["--cacert", &ours]].concat());
    world.set("SNAPFOLD_CACERT", ours);
    let source = world.mkdir("source");
    shell(&source, "seq 200000 >numbers");
    world.backup(&source);
    let mount = world.mount(&["latest"]);
    assert_eq!(shell(mount.path(), "tail -1 numbers").trim(), "200000");
    mount.umount();
    world.ok(&["check", "--read-data"]);
    assert!(proxy.count("PUT", "/packs/") > 0);
}

#[test]
fn a_server_that_is_not_trusted_is_told_nothing_and_not_tried_again() {
    let Some(url) = server() else { return };
    let mut world = World::in_bucket(url);
    world.ok(INIT);
    let certificates = Certificates(world.mkdir("certificates"));
    let [ours, others] = ["ours", "others"].map(|name| certificates.authority(name));
    let plain = world.location().to_owned();
    let mut refused = |name: &str, flags: &[&str], says: &str| {
        let proxy = Proxy::with_tls(url, certificates.server("ours", name));
        world.set("SNAPFOLD_REPOSITORY", plain.replace(url, proxy.url()));
        let start = Instant::now();
        // It would be tried for five minutes if that could help.
        let ran = world.fails(&[&["snapshots"], flags].concat(), FAILED, says);
        assert!(start.elapsed() < Duration::from_secs(60), "not tried again");
        assert!(ran.stderr.contains("not trusted") && ran.stderr.contains("--cacert"), "{}", ran.stderr);
        assert!(proxy.take_asked().is_empty(), "nothing was sent");
    };
    refused("IP:127.0.0.1", &[], "nobody who is trusted");
    refused("IP:127.0.0.1", &["--cacert", &others], "nobody who is trusted");
    refused("DNS:elsewhere.example", &["--cacert", &ours], "another name");
}
