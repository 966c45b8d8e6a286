//! A headless Chromium that a test drives, by the W3C's WebDriver protocol over HTTP.
//!
//! Guarantees: dropped, the browser and what drives it have ended.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rollcall_harness::process::Process;
use rollcall_harness::{ports, tools, wait, workspace};
use serde_json::{Value, json};

/// A browser that takes longer, on a busy machine, does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What a page does not show by then it will not show.
const SHOW_LIMIT: Duration = Duration::from_secs(40);

/// How wide a laptop and a phone are.
pub(crate) const WIDE: (u32, u32) = (1_280, 900);
pub(crate) const NARROW: (u32, u32) = (390, 844);

/// See the module.
pub(crate) struct Browser {
    http: ureq::Agent,
    /// The address of the session.
    session: String,
    _driver: Process,
}

impl Browser {
    /// Starts one with nothing in it; its logs go to `dir`.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let tools::Chromium { browser, driver } = tools::chromium()?;
        let port = ports::free()?;
        let mut command = driver.command();
        command.arg(format!("--port={port}"));
        let mut driver = Process::start("chromedriver", command, dir)?;
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_LIMIT));
        let http = config.http_status_as_error(false).build().new_agent();
        let address = format!("http://127.0.0.1:{port}");
        wait::until("chromedriver to answer", ANSWER_LIMIT, || {
            driver.check_alive()?;
            Ok(http.get(format!("{address}/status")).call().is_ok().then_some(()))
        })?;
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        let arguments = [
            "--headless=new",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": browser, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut started = Self { http, session: format!("{address}/session"), _driver: driver };
        let session = started.ask("", &capabilities)?;
        let id = session["sessionId"].as_str().context("a session without an id")?;
        started.session = format!("{address}/session/{id}");
        started.look(WIDE, "light")?;
        Ok(started)
    }

    /// One command.
    fn ask(&self, path: &str, parameters: &Value) -> Result<Value> {
        let url = format!("{}{path}", self.session);
        let reply = self.http.post(&url).content_type("application/json").send(parameters.to_string());
        let mut reply = reply.with_context(|| format!("{path} gave no answer"))?;
        let body = reply.body_mut().with_config().limit(100_000_000).read_to_string()?;
        let mut body: Value = serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))?;
        ensure!(reply.status() == 200, "{path}: {}", body["value"]["message"]);
        Ok(body["value"].take())
    }

    /// Goes to an address.
    pub(crate) fn go(&self, url: &str) -> Result<()> {
        self.ask("/url", &json!({ "url": url })).map(drop)
    }

    /// One step back in the history.
    pub(crate) fn back(&self) -> Result<()> {
        self.ask("/back", &json!({})).map(drop)
    }

    /// What a script returns.
    pub(crate) fn script(&self, script: &str) -> Result<Value> {
        self.ask("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What an expression is.
    pub(crate) fn value(&self, expression: &str) -> Result<Value> {
        self.script(&format!("return {expression}"))
    }

    /// Waits until an expression is true, or something else that is something.
    pub(crate) fn until(&self, expression: &str) -> Result<Value> {
        let there = || {
            let value = self.value(expression)?;
            Ok((value != Value::Null && value != json!(false) && value != json!("")).then_some(value))
        };
        let waited = wait::until(expression, SHOW_LIMIT, there);
        waited.with_context(|| format!("the page shows: {}", self.text("body").unwrap_or_default()))
    }

    /// Waits until an element shows a text.
    pub(crate) fn shows(&self, selector: &str, text: &str) -> Result<()> {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!("document.querySelector({selector})?.innerText.includes({text})")).map(drop)
    }

    /// The text of an element.
    pub(crate) fn text(&self, selector: &str) -> Result<String> {
        let text = self.value(&format!("document.querySelector({})?.innerText", json!(selector)))?;
        Ok(text.as_str().with_context(|| format!("there is no {selector}"))?.to_owned())
    }

    /// Waits for an element, and clicks on it.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        let element = format!("document.querySelector({})", json!(selector));
        self.until(&format!("{element} !== null"))?;
        self.script(&format!("{element}.click()")).map(drop)
    }

    /// Waits for a link or a button with this text, and clicks on it.
    pub(crate) fn press(&self, text: &str) -> Result<()> {
        let all =
            "[...document.querySelectorAll('main a, main button, main summary, header a, header button')]";
        let element = format!("{all}.find((one) => one.innerText.trim() === {})", json!(text));
        self.until(&format!("{element} !== undefined"))?;
        self.script(&format!("{element}.click()")).map(drop)
    }

    /// Types keys, as somebody does who has the page before them.
    pub(crate) fn type_keys(&self, keys: &str) -> Result<()> {
        let strokes: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        self.ask("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]}))
            .map(drop)
    }

    /// Drags the mouse over a part of an element, given in shares of its width, with Shift or without.
    pub(crate) fn drag(&self, selector: &str, from: f64, to: f64, shift: bool) -> Result<()> {
        let script = format!(
            "const one = document.querySelector({}); one.scrollIntoView({{block: 'center'}}); const {{x, y, width, height}} = one.getBoundingClientRect(); return [x, y + height / 2, width]",
            json!(selector)
        );
        let place = self.script(&script)?;
        let number = |at: usize| place[at].as_f64().context("no such element");
        let (left, top, width) = (number(0)?, number(1)?, number(2)?);
        let at = |share: f64| (left + share * width).round() as i64;
        let to_place =
            |share| json!({"type": "pointerMove", "duration": 50, "x": at(share), "y": top.round() as i64});
        let pause = json!({"type": "pause"});
        let mouse = [
            to_place(from),
            json!({"type": "pointerDown", "button": 0}),
            to_place((from + to) / 2.0),
            to_place(to),
            json!({"type": "pointerUp", "button": 0}),
        ];
        let mut keys = vec![pause; mouse.len()];
        if shift {
            // Held from before the button goes down until after it is up.
            keys[0] = json!({"type": "keyDown", "value": "\u{E008}"});
            keys.push(json!({"type": "keyUp", "value": "\u{E008}"}));
        }
        let actions = json!({"actions": [
            {"type": "key", "id": "keys", "actions": keys},
            {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": mouse},
        ]});
        self.ask("/actions", &actions).map(drop)
    }

    /// How large its window is, and whether the system is `light` or `dark`.
    pub(crate) fn look(&self, (width, height): (u32, u32), scheme: &str) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size)?;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features).map(drop)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.ask("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// All of the page as a picture, under `target/page/`.
    pub(crate) fn picture(&self, name: &str) -> Result<()> {
        let whole = json!({"captureBeyondViewport": true, "format": "png"});
        let picture = self.devtools("Page.captureScreenshot", &whole)?;
        let picture = STANDARD.decode(picture["data"].as_str().context("no picture")?)?;
        let folder = workspace::root().join("target/page");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.png")), picture)?;
        Ok(())
    }

    /// Errors and warnings in the console since it was asked last: of scripts, of the policy, of requests.
    fn console_errors(&self) -> Result<Vec<String>> {
        let log = self.ask("/se/log", &json!({"type": "browser"}))?;
        let entries = log.as_array().context("the log is no list")?;
        let bad = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        Ok(bad.map(|entry| entry["message"].to_string()).collect())
    }

    /// Fails if there are errors in the console without this text.
    pub(crate) fn has_no_errors_but(&self, text: &str) -> Result<()> {
        let errors = self.console_errors()?;
        ensure!(errors.iter().all(|error| error.contains(text)), "{errors:?}");
        Ok(())
    }

    /// Fails as [`Browser::keeps_nobody_out`] does, and if there are errors in the console.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        let errors = self.console_errors()?;
        ensure!(errors.is_empty(), "{what}: {errors:?}");
        self.keeps_nobody_out(what)
    }

    /// Fails if the page is wider than its window, or if axe finds what keeps people out.
    pub(crate) fn keeps_nobody_out(&self, what: &str) -> Result<()> {
        let wide = self.value("document.documentElement.scrollWidth - innerWidth")?;
        ensure!(wide.as_i64() <= Some(0), "{what}: {wide} pixels are cut off");
        self.script(&fs::read_to_string(tools::axe()?)?)?;
        let run = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html + node.failureSummary).join(' ')}`)), (error) => done([`${error}`]));";
        let found = self.ask("/execute/async", &json!({"script": run, "args": []}))?;
        match found.as_array().map(Vec::as_slice) {
            Some([]) => Ok(()),
            _ => bail!("{what}: {found:#}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; what drives it does right after.
        let _ = self.http.delete(&self.session).call();
    }
}
