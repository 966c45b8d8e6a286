//! The page in a real browser before a real host: what it shows is what the API says, in every state that it can be in.
//!
//! Pictures of each state are left under `target/page/`, for people to look at.

mod browser;
mod device;
mod setup;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rollcall_harness::host::{HostProcess, create_token};
use serde_json::{Value, json};

use crate::browser::{NARROW, WIDE};
use crate::setup::{FLEET_SAMPLES, Page, now, publish};

/// The exact table of the page: each status's number, and their sum.
const SHOWN_COUNTS: &str = "[...document.querySelectorAll('.exact tbody td:nth-child(2), #total')].map((one) => Number(one.innerText.replaceAll(',', '')))";

/// The names of the devices that are listed.
const LISTED: &str = "[...document.querySelectorAll('.devices tbody th')].map((one) => one.innerText.trim())";

/// The range that is shown goes on with time, and the address says so.
const GOES_ON: &str = "Number(new URLSearchParams(location.search).get('at')) > Date.now() / 1000 - 100 && document.querySelector('.shown a') === null";

/// Ten minutes have gone by for the page, and somebody looks again.
const LATER: &str = "const now = Date.now; Date.now = () => now() + 600_000; document.dispatchEvent(new Event('visibilitychange'))";

/// What the host tells once a second is of so many milliseconds ago from now on, and its clock so far behind.
fn tell(page: &Page, age_ms: u64, behind_ms: u64) -> Result<()> {
    let script = format!(
        "const at = () => Date.now() - {behind_ms};
        const event = () => new TextEncoder().encode(`event: second\ndata: ${{JSON.stringify({{rate: 0, devices: null, as_of: new Date(at() - {age_ms})}})}}\n\n`);
        const stream = () => new ReadableStream({{start: (events) => setInterval(() => events.enqueue(event()), 1000)}});
        const ask = window.fetch;
        window.fetch = (url, options) => url === '/v1/live' ? Promise.resolve(new Response(stream(), {{headers: {{date: new Date(at()).toUTCString()}}}})) : ask(url, options);
        document.dispatchEvent(new Event('visibilitychange'))"
    );
    page.browser.script(&script).map(drop)
}

/// What the API counts in a range, as the page's table has it.
fn counted(page: &Page, start: &Value, end: &Value) -> Result<Value> {
    let answer = page.ask(&format!("/v1/counts?start={start}&end={end}"))?;
    let mut counts: Vec<_> = (0..7).map(|status: u8| answer["counts"][status.to_string()].clone()).collect();
    counts.push(answer["total"].clone());
    Ok(json!(counts))
}

/// The range that is in the address.
fn range_in_address(page: &Page) -> Result<(u64, u64)> {
    let range = page
        .browser
        .value("['start', 'end'].map((name) => Number(new URLSearchParams(location.search).get(name)))")?;
    Ok((range[0].as_u64().context("no start")?, range[1].as_u64().context("no end")?))
}

#[test]
fn the_first_view_says_how_the_fleet_is_in_numbers_that_are_the_apis() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    // What is missing at all is no number of the range.
    page.open("?last=15m")?;
    page.browser.until("document.querySelector('#total')")?;
    let as_of = page.browser.until("document.querySelector('#freshness .as-of')?.innerText")?;
    page.browser.until(&format!("document.querySelector('#freshness .as-of').innerText !== {as_of}"))?;
    page.browser.until("document.querySelector('a.figure[href*=gaps] b').innerText === '12'")?;
    let end = now()? / 3_600 * 3_600 + 3_600;
    let start = end - 86_400;
    page.open(&format!("?start={start}&end={end}"))?;
    page.browser.shows("#sentence", "1 of 5 devices has not answered since")?;
    page.browser.shows("#sentence", "1 more is offline.")?;
    for (state, number) in [("online", "3"), ("stale", "1"), ("offline", "1"), ("never_seen", "0")] {
        let figure =
            format!("document.querySelector('.figure .{state}').closest('a').querySelector('b').innerText");
        page.browser.until(&format!("{figure} === '{number}'"))?;
    }
    page.browser.shows("#total", &FLEET_SAMPLES.to_string())?;
    assert_eq!(page.browser.value(SHOWN_COUNTS)?, counted(&page, &json!(start), &json!(end))?);
    page.browser.shows(".attention", "cellar-2")?;
    page.browser.shows(".attention", "12 samples missing")?;
    page.browser.until("document.querySelector('.attention li a').innerText.includes('cellar-2')")?;
    page.browser.shows("#freshness", "live")?;
    page.browser.picture("fleet")?;
    page.browser.check("fleet")?;
    page.browser.look(WIDE, "dark")?;
    page.browser.until("document.querySelector('.u-axis') === null || getComputedStyle(document.body).backgroundColor !== 'rgb(255, 255, 255)'")?;
    page.browser.picture("fleet-dark")?;
    page.browser.check("fleet, dark")?;
    page.browser.look(NARROW, "dark")?;
    // A day of quarters of an hour would be too fine to be seen here.
    page.browser.shows(".shown", "step 1 h")?;
    page.browser.until("document.querySelector('.uplot canvas').clientHeight === 200")?;
    page.browser.picture("fleet-narrow-dark")?;
    page.browser.check("fleet, narrow, dark")
}

#[test]
fn what_arrives_is_on_the_page_a_moment_later() -> Result<()> {
    let Some(page) = Page::new()? else { return Ok(()) };
    page.open("")?;
    page.browser.shows("h1", "Nothing has arrived yet.")?;
    let port = page.settings.mqtt_port;
    page.browser.shows(".command code", &format!("cargo xtask run-device --broker 127.0.0.1:{port}"))?;
    page.browser.picture("empty")?;
    page.browser.check("empty")?;
    let mut client = page.client()?;
    publish(&mut client, "porch", 3, None)?;
    page.browser.shows("#sentence", "The one device answers.")?;
    page.browser.shows("#total", "1")?;
    publish(&mut client, "porch", 5, None)?;
    page.browser.until(&format!("{SHOWN_COUNTS}.join() === '0,0,0,1,0,1,0,2'"))?;
    // It is in the rate for as long as ten seconds.
    publish(&mut client, "porch", 5, None)?;
    page.browser.until("Number(document.querySelector('span.figure b').innerText) > 0")?;
    page.browser.check("live")
}

#[test]
fn every_filter_filters_the_devices_and_pages_follow_each_other() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    page.open("?view=devices")?;
    let listed = |names: &[&str]| page.browser.until(&format!("{LISTED}.join() === '{}'", names.join(",")));
    listed(&["attic-9", "barn-4", "cellar-2", "porch-17", "porch-18"])?;
    page.browser.picture("devices")?;
    page.browser.check("devices")?;
    let filters: [(&str, &[&str]); 4] = [
        ("Silent", &["cellar-2"]),
        ("Offline", &["barn-4"]),
        ("Missing samples", &["attic-9"]),
        ("All", &["attic-9", "barn-4", "cellar-2", "porch-17", "porch-18"]),
    ];
    for (filter, names) in filters {
        page.browser.press(filter)?;
        listed(names)?;
    }
    for (filter, said) in
        [("Never seen", "Every device that was issued has come."), ("Undecided", "Of every sample")]
    {
        page.browser.press(filter)?;
        page.browser.shows(".list", said)?;
    }
    page.browser.press("All")?;
    page.browser.press("Last sample")?;
    page.browser.until(&format!("{LISTED}[0] === 'cellar-2'"))?;
    page.browser.press("Missing")?;
    page.browser.until(&format!("{LISTED}[0] === 'attic-9'"))?;
    page.browser.type_keys("/porch")?;
    listed(&["porch-17", "porch-18"])?;
    ensure!(
        page.browser.value("location.search")?.as_str().is_some_and(|query| query.contains("prefix=porch"))
    );
    page.open("?view=devices")?;
    page.browser.until(&format!("{LISTED}.length === 5"))?;
    page.browser.look(NARROW, "light")?;
    page.browser.picture("devices-narrow")?;
    page.browser.check("devices, narrow")?;
    page.browser.look(WIDE, "light")?;

    let mut client = page.client()?;
    for number in 0..60 {
        publish(&mut client, &format!("shed-{number:02}"), 1, None)?;
    }
    page.open("?view=devices&prefix=shed")?;
    page.browser.until(&format!("{LISTED}.length === 50 && {LISTED}[49] === 'shed-49'"))?;
    page.browser.press("Next 50")?;
    page.browser.until(&format!("{LISTED}.length === 10 && {LISTED}[0] === 'shed-50'"))?;
    page.browser.back()?;
    page.browser.until(&format!("{LISTED}[0] === 'shed-00'"))?;
    page.browser.check("pages of devices")
}

#[test]
fn a_part_that_is_dragged_over_is_shown_closer_and_its_address_shows_it_again() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    let end = now()? / 3_600 * 3_600 + 3_600;
    page.open(&format!("?start={}&end={end}", end - 43_200))?;
    page.browser.shows("#total", "")?;
    page.browser.until("document.querySelector('.u-over') !== null")?;
    page.browser.drag(".u-over", 0.25, 0.5, false)?;
    page.browser.until(&format!("!location.search.includes('start={}')", end - 43_200))?;
    let (start, closer) = range_in_address(&page)?;
    ensure!(start > end - 43_200 && closer < end && start < closer, "{start} to {closer}");
    let expected = counted(&page, &json!(start), &json!(closer))?;
    page.browser.until(&format!("JSON.stringify({SHOWN_COUNTS}) === '{expected}'"))?;
    let address = page.browser.value("location.href")?;
    page.browser.go(address.as_str().context("no address")?)?;
    page.browser.until(&format!("JSON.stringify({SHOWN_COUNTS}) === '{expected}'"))?;
    page.browser.type_keys("[")?;
    page.browser.until(&format!("!location.search.includes('start={start}')"))?;
    ensure!(range_in_address(&page)?.0 < start);
    page.browser.back()?;
    page.browser.until(&format!("location.search.includes('start={start}')"))?;

    page.open(&format!("?start={}&end={end}", end - 43_200))?;
    page.browser.until("document.querySelector('.u-over') !== null")?;
    page.browser.drag(".u-over", 0.5, 0.75, true)?;
    page.browser.shows(".differs h3", "What differs in the ")?;
    page.browser.until("document.querySelectorAll('.differs tbody tr').length > 0")?;
    page.browser.picture("differs")?;
    page.browser.check("differs")?;
    page.browser.press("Close")?;
    page.browser.until("!location.search.includes('differs')")?;

    // The legend takes a status out of the chart, and not out of the numbers.
    let before = page.browser.value(SHOWN_COUNTS)?;
    page.browser.click(".legend button")?;
    page.browser
        .until("document.querySelector('.legend button').getAttribute('aria-pressed') === 'false'")?;
    ensure!(page.browser.value("location.search.includes('hide=0')")? == json!(true));
    assert_eq!(page.browser.value(SHOWN_COUNTS)?, before);
    page.browser.script("document.querySelector('.steps').open = true")?;
    page.browser.until("document.querySelectorAll('.steps tbody tr').length > 10")?;
    page.browser.check("a table of every step")
}

#[test]
fn a_range_that_goes_on_does_so_after_nobody_looked_and_in_every_view() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    page.open("?last=1h")?;
    page.browser.until(GOES_ON)?;
    page.browser.script(LATER)?;
    page.browser.until(GOES_ON)?;
    page.browser.type_keys("d")?;
    page.browser.shows("h1", "Devices")?;
    page.browser.script(LATER)?;
    page.browser.type_keys("f")?;
    page.browser.until(GOES_ON)?;
    page.browser.press("See all devices")?;
    page.browser.press("porch-17")?;
    page.browser.until(GOES_ON)?;
    page.browser.script(LATER)?;
    page.browser.press("All devices")?;
    page.browser.shows("h1", "Devices")?;
    page.browser.back()?;
    page.browser.until(GOES_ON)?;
    page.browser.check("later")?;
    // A link that was sent shows what it showed.
    page.open(&format!("?last=1h&at={}", now()? - 600))?;
    page.browser.shows(".shown", "Back to now")?;
    page.browser.press("Back to now")?;
    page.browser.until(GOES_ON).map(drop)
}

#[test]
fn a_range_that_no_time_can_have_is_as_if_it_was_not_there() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    for range in ["start=0&end=1e18", "start=5&end=5", "start=-5&end=5", "start=a&end=b"] {
        page.open(&format!("?{range}"))?;
        page.browser.shows("#sentence", "1 of 5 devices has not answered since")?;
        page.browser.until("document.querySelector('.presets [aria-current]').innerText === '1 h'")?;
    }
    page.browser.check("no such range")
}

#[test]
fn a_stream_that_ends_is_asked_for_again_and_what_is_old_is_not_live() -> Result<()> {
    let Some(page) = Page::new()? else { return Ok(()) };
    page.open("")?;
    let is_live = "document.querySelector('#freshness').innerText.trim().endsWith('ago live')";
    page.browser.until(is_live)?;
    let ends = "const [ask, notice] = [window.fetch, document.querySelector('#notice')];
        window.asked = 0;
        window.noticed = '';
        new MutationObserver(() => (window.noticed += notice.textContent)).observe(notice, {childList: true});
        const event = `event: second\ndata: ${JSON.stringify({rate: 0, devices: null, as_of: new Date()})}\n\n`;
        window.fetch = (url, options) => url === '/v1/live' && window.asked++ === 0 ? Promise.resolve(new Response(event)) : ask(url, options);
        document.dispatchEvent(new Event('visibilitychange'))";
    page.browser.script(ends)?;
    page.browser.until(&format!("window.asked > 1 && {is_live}"))?;
    assert_eq!(page.browser.value("window.noticed")?, json!(""));
    tell(&page, 90_000, 0)?;
    page.browser.until("document.querySelector('#freshness').innerText.includes('1 minute ago not live')")?;
    // A clock that is an hour ahead of the host's makes nothing old.
    tell(&page, 0, 3_600_000)?;
    page.browser.until(is_live).map(drop)
}

#[test]
fn a_host_that_is_gone_is_said_and_what_was_shown_stays_until_it_is_back() -> Result<()> {
    let Some(mut page) = Page::recorded()? else { return Ok(()) };
    page.open("?last=24h")?;
    page.browser.shows("#total", &FLEET_SAMPLES.to_string())?;
    page.browser.check("before")?;
    page.host.take().context("no host")?.kill();
    page.browser.shows("#notice", "No answer from the host since")?;
    page.browser.shows("#notice", "What stands below is from before.")?;
    page.browser.shows("#freshness", "not live")?;
    page.browser.shows("#total", &FLEET_SAMPLES.to_string())?;
    page.browser.until("document.querySelector('#notice').innerText.includes('Next attempt in')")?;
    page.browser.picture("gone")?;
    // That nobody answers.
    page.browser.has_no_errors_but("net::ERR_")?;
    page.browser.keeps_nobody_out("gone")?;
    page.host = Some(HostProcess::start(&page.settings)?);
    page.browser.until("document.querySelector('#notice').innerText === ''")?;
    page.browser.shows("#freshness", "live")?;
    publish(&mut page.client()?, "porch-17", 2, None)?;
    page.browser.shows("#total", &(FLEET_SAMPLES + 1).to_string())
}

#[test]
fn a_host_with_tokens_asks_for_one_and_forgets_it_when_asked_to() -> Result<()> {
    let Some(mut page) = Page::recorded()? else { return Ok(()) };
    let file = page.dir.path().join("tokens");
    let file = file.to_str().context("a path that is no text")?;
    let token = create_token(&page.settings.binary, Path::new(file))?;
    page.restart(&["--tokens-file", file])?;
    page.open("?last=24h")?;
    page.browser.shows("h1", "This host asks for a token")?;
    page.browser.picture("sign-in")?;
    // The answer that asks for it.
    page.browser.has_no_errors_but("401")?;
    page.browser.check("sign in")?;
    page.browser.type_keys("page.wrong\u{E007}")?;
    page.browser.shows(".problem", "This token is not known to the host.")?;
    page.browser.type_keys(&format!("{token}\u{E007}"))?;
    page.browser.shows("#total", &FLEET_SAMPLES.to_string())?;
    page.browser.shows("#freshness", "live")?;
    ensure!(page.browser.value("localStorage.getItem('rollcall-token') === null")? == json!(true));
    page.open("?view=data&last=24h")?;
    page.browser.shows("#total", &FLEET_SAMPLES.to_string())?;
    page.browser.press("Sign out")?;
    page.browser.shows("h1", "This host asks for a token")?;
    ensure!(page.browser.value("sessionStorage.length")? == json!(0));
    Ok(())
}

#[test]
fn statuses_that_have_names_are_shown_and_saved_with_them() -> Result<()> {
    let Some(mut page) = Page::new()? else { return Ok(()) };
    let file = page.dir.path().join("statuses.json");
    let names = ["idle", "warming up", "working", "cooling down", "low battery", "door open", "overheated"];
    let levels = ["good", "good", "good", "good", "warning", "warning", "bad"];
    let meaning = |at: usize| (at.to_string(), json!({"name": names[at], "level": levels[at]}));
    fs::write(&file, Value::Object((0..7).map(meaning).collect()).to_string())?;
    page.restart(&["--statuses", &file.display().to_string()])?;
    page.record()?;
    page.open("?view=data&last=24h")?;
    page.browser.shows(".exact", "low battery")?;
    page.browser.shows(".exact", "overheated 6")?;
    page.browser.shows(".legend", "door open")?;
    page.browser.shows(".drops", "Messages that will never be counted")?;
    page.browser.picture("data-named")?;
    page.browser.check("data")?;
    page.browser.look(WIDE, "dark")?;
    page.browser.picture("data-named-dark")?;
    page.browser.check("data, dark")?;
    let keep = "const old = URL.createObjectURL; URL.createObjectURL = (blob) => { blob.text().then((text) => (window.saved = text)); return old(blob); };";
    page.browser.script(keep)?;
    page.browser.press("Save as CSV")?;
    let saved = page.browser.until("window.saved")?;
    let saved = saved.as_str().context("no text")?;
    let mut lines = saved.lines();
    let head = lines.next().context("no head")?;
    assert_eq!(
        head,
        "start,seconds,0 idle (good),1 warming up (good),2 working (good),3 cooling down (good),4 low battery (warning),5 door open (warning),6 overheated (bad),total,missing,dated to a second,time not known"
    );
    let total: u64 = lines.filter_map(|line| line.split(',').nth(9)?.parse::<u64>().ok()).sum();
    assert_eq!(total, FLEET_SAMPLES);
    let metrics = ureq::get(&page.host()?.url("/metrics")).call()?.body_mut().read_to_string()?;
    ensure!(metrics.contains(r#"{status="6",name="overheated",level="bad"}"#), "{metrics}");
    Ok(())
}
