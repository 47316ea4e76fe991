// Lays two chosen runs of a chapter beside each other, from the data in the page.
(() => {
  const held = document.getElementById("runs-to-compare"), form = document.querySelector("form.compare-runs"), place = document.querySelector(".compared");
  if (!held || !form) return;
  const chapters = JSON.parse(held.textContent), {chapter, first, second} = form.elements;

  const make = (tag, text, ...inner) => {
    const made = document.createElement(tag);
    if (text !== null) made.textContent = text;
    made.append(...inner);
    return made;
  };
  const fill = (select, names, chosen) => {
    select.replaceChildren(...names.map((name, at) => new Option(name, at)));
    select.selectedIndex = Math.min(chosen, names.length - 1);
  };
  const isNumber = each => typeof each === "number";
  const short = each => isNumber(each) ? String(Number(each.toPrecision(4))) : String(each);
  const inWords = ([value, low, high]) => low === null ? short(value) : `${short(value)} (${short(low)} to ${short(high)})`;
  const apart = (one, other) => [...one.slice(1), ...other.slice(1)].every(isNumber) && (one[2] < other[1] || other[2] < one[1]);

  const table = (caption, head, rows) => {
    if (!rows.length) return make("p", `${caption}: none.`);
    const heads = head.map(name => Object.assign(make("th", name), {scope: "col"}));
    const body = rows.map(row => make("tr", null, ...row.map(cell => make("td", cell))));
    const made = make("table", null, make("caption", caption), make("thead", null, make("tr", null, ...heads)), make("tbody", null, ...body));
    made.className = "table";
    const box = make("div", null, made);
    box.className = "compared-table";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption);
    return box;
  };

  const compare = () => {
    const runs = chapters[chapter.options[chapter.selectedIndex].text], a = runs[first.selectedIndex], b = runs[second.selectedIndex];
    const names = Object.keys({...a.parameters, ...b.parameters}).filter(name => a.parameters[name] !== b.parameters[name]);
    const both = Object.keys(a.results).filter(name => name in b.results);
    const rows = both.map(name => [name, inWords(a.results[name]), inWords(b.results[name]), apart(a.results[name], b.results[name]) ? "apart" : ""]);
    const alone = Object.keys(a.results).length + Object.keys(b.results).length - 2 * both.length;
    const summary = a === b ? "This is one and the same run."
      : `${names.length} parameters differ. ${both.length} results are in both runs, ${rows.filter(row => row[3]).length} of them with intervals apart; ${alone} are in one alone.`;
    place.replaceChildren(make("p", `${a.name}: ${a.words}`), make("p", `${b.name}: ${b.words}`), make("p", summary),
      ...(a === b ? [] : [table("Parameters that differ", ["parameter", a.name, b.name], names.map(name => [name, a.parameters[name] ?? "", b.parameters[name] ?? ""])),
        table("Results", ["result", a.name, b.name, ""], rows)]));
  };
  const choose = () => {
    const names = chapters[chapter.options[chapter.selectedIndex].text].map(run => run.name);
    fill(first, names, 0);
    fill(second, names, 1);
    compare();
  };

  fill(chapter, Object.keys(chapters), Math.max(0, Object.values(chapters).findIndex(runs => runs.length > 1)));
  chapter.addEventListener("change", choose);
  [first, second].forEach(select => select.addEventListener("change", compare));
  form.hidden = false;
  choose();
})();
