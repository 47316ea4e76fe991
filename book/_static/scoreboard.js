// The filters above the scoreboard: rows that do not fit what is chosen are hidden, and how many are left is said. Nothing is remembered.
(function () {
  "use strict";
  function bring_to_life(board) {
    var form = board.querySelector("form.filters");
    if (!form) { return; }
    var rows = Array.prototype.slice.call(board.querySelectorAll("tbody tr"));
    var selects = Array.prototype.slice.call(form.querySelectorAll("select")), counter = form.querySelector("[role=status]");

    function show() {
      var left = rows.filter(function (row) {
        row.hidden = selects.some(function (select) { return select.value !== "" && row.getAttribute("data-" + select.name) !== select.value; });
        return !row.hidden;
      });
      counter.textContent = left.length + " of " + rows.length + " claims";
    }

    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("change", show);
    form.addEventListener("reset", function () { setTimeout(show); });  // after the reset itself
    form.hidden = false;
    show();
  }

  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll(".pneumo-scoreboard").forEach(bring_to_life);
  });
}());
