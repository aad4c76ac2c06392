//! The status page in a browser while real firmware boots.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BROWSER_TOOLS, Browser, Firmware, Vm, required};

use crate::stand::{BOOT, NETBOOTD, Stand};

/// Pictures of three stages are kept below the target folder.
#[test]
fn a_real_boot_is_seen_from_its_first_packet_to_its_hand_over() -> Result<()> {
    let Some(()) = required(&[BROWSER_TOOLS]) else { return Ok(()) };
    let Some(stand) = Stand::with_rate_limit("3MB")? else { return Ok(()) };
    let mut browser = Browser::start(&stand.host)?;
    browser.look(false, 1280)?;
    browser.open(&format!("http://{NETBOOTD}:8080/"))?;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&folder)?;

    let vm = Vm::start(&stand.lab, Firmware::UefiPxe, 12)?;
    let seen = [
        ("1-discover", "document.querySelector('.row .done')"),
        ("2-kernel", "document.querySelector('.row .active')?.innerText.includes('Kernel')"),
        ("3-handed-over", "document.querySelector('.row')?.dataset.state === 'handed_over'"),
    ];
    for (picture, is_there) in seen {
        browser.wait_until(is_there).with_context(|| format!("{picture}: {}", stand.printed()))?;
        browser.screenshot(&folder.join(format!("qemu-{picture}.png")))?;
    }
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}");
    browser.open(&format!("http://{NETBOOTD}:8080/machines/{}", vm.mac()))?;
    let text = browser.text()?;
    for seen in ["UEFI x86_64", "snponly.efi", "profile command-line", "vmlinuz", "it has its kernel and all initrds"] {
        ensure!(text.contains(seen), "{seen} is missing:\n{text}");
    }
    browser.screenshot(&folder.join("qemu-machine.png"))?;
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    Ok(())
}
