// Loaded before anything is painted, and so no module: a page that turns dark a moment later hurts the eyes.

(() => {
  const ORDER = ["system", "light", "dark"];
  const WORDS = { system: "as the system", light: "light", dark: "dark" };

  function chosen() {
    const kept = localStorage.getItem("studio-theme");
    return ORDER.includes(kept) ? kept : "system";
  }

  function apply(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    document.getElementById("theme-button")?.setAttribute("aria-label", `Theme: ${WORDS[theme]}`);
  }

  apply(chosen());
  document.addEventListener("DOMContentLoaded", () => {
    apply(chosen());
    document.getElementById("theme-button").addEventListener("click", () => {
      const next = ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length];
      localStorage.setItem("studio-theme", next);
      apply(next);
    });
  });
})();
