// Keeps a run under way in sight: the part of the page that tells of it is asked for again every second. Once the run
// has ended, the page is made anew. Without this script the page is whole, and stands still.
"use strict";
const part = document.querySelector("[data-live]");
if (part) {
  const ask = async () => {
    try {
      const answer = await fetch(part.dataset.live);
      if (answer.ok && answer.headers.get("x-under-way") === "no") {
        location.reload();
        return;
      }
      if (answer.ok) {
        const text = await answer.text();
        if (part.innerHTML !== text) part.innerHTML = text;
      }
    } catch {
      // The server is away; it may come back.
    }
    setTimeout(ask, 1000);
  };
  setTimeout(ask, 1000);
}
