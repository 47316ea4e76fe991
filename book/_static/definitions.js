// The definition that a word shows on hover and focus is the style sheet's work; Escape puts it away until the pointer or the focus goes elsewhere.
addEventListener("keydown", event => {
  if (event.key !== "Escape") return;
  const word = document.querySelector("a[aria-description]:is(:hover, :focus-visible)");
  if (!word) return;
  word.classList.add("put-away");
  for (const leaving of ["mouseleave", "blur"]) word.addEventListener(leaving, () => word.classList.remove("put-away"), { once: true });
});
