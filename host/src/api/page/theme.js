// Light or dark, before anything is drawn.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("rollcall-theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
