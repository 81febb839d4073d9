//! A real browser, driven by its own WebDriver server (W3C WebDriver, and Chromium's extensions).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::calls::DEADLINE;

/// Chromium without a window. Ends with the test.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
}

impl Browser {
    /// Starts it with its profile in `dir`.
    pub fn start(dir: &Path) -> Self {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = started.expect("chromedriver, of the package chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        // First "Starting ChromeDriver … on port 0", then "… was started successfully on port 12345."
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let port = line.split("successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let Some(port) = port else {
            let _ = driver.kill();
            let _ = driver.wait();
            panic!("the driver names no port");
        };
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
        };
        // Whatever else it says is of no interest, but must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--disable-component-update", "--no-first-run",
                format!("--user-data-dir={}", dir.display()),
            ],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let session = browser.call("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        // Away from the browser's own first page.
        browser.open("about:blank");
        browser.requested();
        browser
    }

    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// What the body of a function returns; `await` is welcome.
    pub fn run(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];\
             (async () => {{ {script} }})().then(done, (error) => done('failed: ' + error));"
        );
        self.command("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        let began = Instant::now();
        loop {
            let value = self.run(&format!("return {expression};"));
            if value == true {
                return;
            }
            let page = || self.run("return document.body.innerText.slice(0, 2000);");
            assert!(
                began.elapsed() < DEADLINE,
                "{expression}: {value}, in\n{}",
                page()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, name: &str, parameters: &Value) {
        self.command(
            "goog/cdp/execute",
            &json!({ "cmd": name, "params": parameters }),
        );
    }

    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    pub fn color_scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// Warnings and errors of the console since the last call.
    pub fn complaints(&self) -> Vec<Value> {
        let entries = self.log("browser").into_iter();
        entries
            .filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG")
            .collect()
    }

    /// Where requests went since the last call.
    pub fn requested(&self) -> Vec<String> {
        let entries = self.log("performance").into_iter();
        let messages = entries.filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent").then(|| {
                message["params"]["request"]["url"]
                    .as_str()
                    .map(str::to_owned)
            })?
        });
        messages.collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", &json!({ "type": kind }));
        entries.as_array().cloned().unwrap_or_default()
    }

    /// A picture, where somebody wants it: in the directory that FLOTILLA_SCREENSHOTS names.
    pub fn screenshot(&self, name: &str) {
        let Some(dir) = std::env::var_os("FLOTILLA_SCREENSHOTS") else {
            return;
        };
        let path = format!("/session/{}/screenshot", self.session);
        let picture = self.call("GET", &path, &Value::Null);
        let picture = data_encoding::BASE64.decode(picture.as_str().unwrap().as_bytes());
        std::fs::write(Path::new(&dir).join(name), picture.unwrap()).unwrap();
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.call(
            "POST",
            &format!("/session/{}/{name}", self.session),
            parameters,
        )
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        // The driver keeps the connection whatever it is told.
        let mut reply = BufReader::new(stream);
        let (mut status, mut line, mut length) = (String::new(), String::new(), 0);
        reply.read_line(&mut status).unwrap();
        while reply.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reply.read_exact(&mut body).unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(
            status.contains(" 200 "),
            "{path}: {}",
            answer["value"]["message"]
        );
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser itself ends with its session.
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let head = format!(
                "DELETE /session/{} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
                self.session, self.address
            );
            let _ = stream.write_all(head.as_bytes());
            // It answers when the browser has ended.
            let _ = stream.set_read_timeout(Some(DEADLINE));
            let _ = stream.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
