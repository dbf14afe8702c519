"use strict";
(() => {
  const live = document.getElementById("live");
  const say = (text) => { live.textContent = ""; requestAnimationFrame(() => { live.textContent = text; }); };

  // Selects a text, so that a person can copy what the browser does not let a script copy.
  const select = (code) => {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  const copied = async (code) => {
    // Only secure contexts have a clipboard: not plain HTTP from another machine.
    if (navigator.clipboard) {
      try { await navigator.clipboard.writeText(code.textContent); return true; } catch { /* the old way, then */ }
    }
    select(code);
    const done = document.execCommand("copy");
    if (done) getSelection().removeAllRanges();
    return done;
  };

  for (const code of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy " + code.dataset.copy);
    button.addEventListener("click", async () => {
      const done = await copied(code);
      button.textContent = done ? "Copied" : "Selected";
      button.classList.toggle("done", done);
      say(done ? "Copied " + code.dataset.copy : "Selected: press Ctrl+C to copy");
      setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); }, 2000);
    });
    code.closest(".copyable").append(button);
  }

  // The client somebody chose stays chosen on the next page.
  const key = "sealift-client";
  const radios = document.querySelectorAll("input[name=client]");
  try {
    const chosen = document.getElementById(localStorage.getItem(key) || "");
    if (chosen) chosen.checked = true;
    for (const radio of radios) radio.addEventListener("change", () => localStorage.setItem(key, radio.id));
  } catch { /* no storage: Docker is shown first */ }

  const images = [...document.querySelectorAll("article.image")];
  if (images.length > 3) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    label.textContent = "Show only images with ";
    input.type = "search";
    input.autocomplete = "off";
    label.append(input);
    document.getElementById("filter").append(label);
    const rows = new Map([...document.querySelectorAll("[data-image]")].map((row) => [row.dataset.image, row]));
    const texts = new Map(images.map((image) => [image, image.textContent.toLowerCase()]));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const image of images) {
        const fits = words.every((word) => texts.get(image).includes(word));
        image.hidden = !fits;
        rows.get(image.id).hidden = !fits;
        left += fits;
      }
      say(left === 1 ? "1 image" : left + " images");
    });
  }
})();
