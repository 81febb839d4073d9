//! A token service as Harbor has one: `GET /service/token?service=…&scope=…`, Basic credentials
//! in, a signed JWT out (Docker Registry v2 authentication).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::network::host::Host;
use crate::network::namespace::NAMESPACE_DIR;
use crate::registries::certificate::Certificate;
use crate::registries::login::Login;

const PORT: u16 = 5001;
const ISSUER: &str = "harbor-token-issuer";
const SERVICE: &str = "harbor-registry";
/// As Harbor's by default.
const LIFETIME: u64 = 30 * 60;
/// What anybody may read.
const PUBLIC: &str = "public/";

/// A running token service.
#[derive(Debug)]
pub(crate) struct TokenService {
    realm: String,
    roots: PathBuf,
    _stop: oneshot::Sender<()>,
}

struct Signer {
    login: Login,
    certificate: Certificate,
    key: EcdsaKeyPair,
}

impl TokenService {
    /// Serves on `host`, and writes the certificate that verifies its tokens to `directory`.
    pub(crate) fn start(host: &Host, login: Login, directory: &Path) -> Result<Self> {
        let certificate = Certificate::for_address(host.address())?;
        let roots = directory.join("token-roots.pem");
        fs::write(&roots, certificate.pem()).context("cannot write the token roots")?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &certificate.key_der(),
            &SystemRandom::new(),
        );
        let signer = Arc::new(Signer {
            login,
            certificate,
            key: key.map_err(|error| anyhow::anyhow!("signing key: {error}"))?,
        });
        let address = SocketAddr::from((host.address(), PORT));
        let namespace = Path::new(NAMESPACE_DIR).join(host.namespace_name());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        // A thread of its own: it stays in the host's network.
        thread::spawn(move || {
            let _ = ready.send(serve(&namespace, address, signer, stopped, &ready));
        });
        is_ready.recv().context("the token service ended")??;
        Ok(Self {
            realm: format!("http://{address}/service/token"),
            roots,
            _stop: stop,
        })
    }

    /// The `auth` section of the registry that trusts it.
    pub(crate) fn registry_settings(&self) -> Value {
        json!({"token": {
            "realm": self.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": self.roots,
        }})
    }
}

fn serve(
    namespace: &Path,
    address: SocketAddr,
    signer: Arc<Signer>,
    stopped: oneshot::Receiver<()>,
    ready: &mpsc::Sender<Result<()>>,
) -> Result<()> {
    let namespace = File::open(namespace).context("the host's namespace")?;
    move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(LinkNameSpaceType::Network),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let router = Router::new()
            .route("/service/token", get(token))
            .with_state(signer);
        let _ = ready.send(Ok(()));
        tokio::select! {
            served = axum::serve(listener, router).into_future() => served?,
            _ = stopped => {}
        }
        Ok(())
    })
}

/// A token is given to every client whose credentials are right, or that has none; what it allows
/// is in its claims.
async fn token(
    State(signer): State<Arc<Signer>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let is_operator = match headers.get(header::AUTHORIZATION) {
        None => false,
        Some(value) if value.as_bytes() == signer.basic().as_bytes() => true,
        Some(_) => return StatusCode::UNAUTHORIZED.into_response(),
    };
    let query = query.unwrap_or_default();
    let scopes = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("scope="))
        .map(|scope| {
            scope
                .replace("%3A", ":")
                .replace("%2F", "/")
                .replace("%2C", ",")
        });
    let access: Vec<Value> = scopes
        .flat_map(|scope| {
            scope
                .split(['+', ' '])
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|scope| granted(&scope, is_operator))
        .collect();
    match signer.sign(&access, if is_operator { signer.login.user } else { "" }) {
        Some(token) => axum::Json(json!({
            "token": token, "access_token": "", "expires_in": LIFETIME,
        }))
        .into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn granted(scope: &str, is_operator: bool) -> Option<Value> {
    let mut parts = scope.splitn(3, ':');
    let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| is_operator || (*action == "pull" && name.starts_with(PUBLIC)))
        .collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

impl Signer {
    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.login.user, self.login.password);
        format!("Basic {}", BASE64.encode(pair.as_bytes()))
    }

    fn sign(&self, access: &[Value], user: &str) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let head = json!({
            "typ": "JWT", "alg": "ES256", "x5c": [BASE64.encode(self.certificate.der())],
        });
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": SERVICE, "jti": now.to_string(),
            "iat": now, "nbf": now.saturating_sub(60), "exp": now + LIFETIME,
            "access": access,
        });
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .ok()?;
        Some(format!(
            "{signed}.{}",
            BASE64URL_NOPAD.encode(signature.as_ref())
        ))
    }
}
