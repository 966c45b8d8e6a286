//! A device's own page.

use anyhow::Result;

use crate::browser::NARROW;
use crate::setup::Page;

/// A host that tells one message and then looks for more for ever.
const LOOKS_FOR_EVER: &str = r#"
    const answer = window.fetch;
    const told = { device: "attic-9", seq: 7, status: 3, sampled_at: "2026-11-23T00:00:00Z", received_at: "2026-11-23T00:00:00Z", time_error: "exact", kind: "sample" };
    window.fetch = (url, options) => {
        if (!url.startsWith("/v1/messages")) return answer(url, options);
        const start = (stream) => stream.enqueue(new TextEncoder().encode(`${JSON.stringify(told)}\n`));
        return Promise.resolve(new Response(new ReadableStream({ start, cancel: () => { window.isLeft = true; } })));
    };"#;

#[test]
fn a_device_has_a_page_with_its_state_its_gaps_and_its_boots() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    page.open("?view=devices&last=24h")?;
    page.browser.press("attic-9")?;
    page.browser.shows("h1", "attic-9")?;
    page.browser.shows(".sentence-small", "Answers; the last sample came")?;
    page.browser.shows(".lost", "12 samples between")?;
    page.browser.shows(".boots", "00000000000000b7")?;
    let device = page.ask("/v1/devices/attic-9")?;
    for number in ["seen", "missing"] {
        page.browser.shows(".facts", &device[number].to_string())?;
    }
    page.browser.shows("#total", "48")?;
    page.browser.press("Its last hundred samples")?;
    page.browser.until("document.querySelectorAll('.samples tbody tr').length === 48")?;
    page.browser.picture("device")?;
    page.browser.check("device")?;
    page.browser.look(NARROW, "light")?;
    page.browser.picture("device-narrow")?;
    page.browser.check("device, narrow")?;
    page.open("?device=cellar-2")?;
    page.browser.shows(".sentence-small", "Silent since")?;
    page.open("?device=barn-4")?;
    page.browser.shows(".sentence-small", "Offline;")?;
    page.browser.check("a device that has left")?;
    page.open("?device=nobody")?;
    page.browser.shows(".problem", "was ever seen")
}

#[test]
fn samples_of_a_device_are_shown_when_nothing_more_is_found_for_a_while() -> Result<()> {
    let Some(page) = Page::recorded()? else { return Ok(()) };
    page.open("?device=attic-9")?;
    page.browser.shows(".facts", "last status")?;
    page.browser.script(LOOKS_FOR_EVER)?;
    page.browser.press("Its last hundred samples")?;
    page.browser.shows(".samples", "not all of the log was read")?;
    page.browser
        .until("document.querySelectorAll('.samples tbody tr').length === 1 && window.isLeft === true")?;
    Ok(())
}
