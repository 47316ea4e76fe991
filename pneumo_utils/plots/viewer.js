(function () {
  "use strict";
  var root = document.getElementById("VIEWER");
  if (!root || root.dataset.ready) { return; }
  root.dataset.ready = "yes";
  var data = JSON.parse(root.querySelector(".data").textContent);
  var picture = root.querySelector(".picture"), heat = root.querySelector(".heat"), mask = root.querySelector(".mask"), description = root.querySelector(".description");
  var controls = root.querySelector(".controls"), opacity = controls.querySelector("input[type=range]"), outlined = controls.querySelector("input[type=checkbox]");
  var groups = Array.prototype.slice.call(controls.querySelectorAll("fieldset"));
  // what stands in the page already is not sent a second time
  [picture, heat, mask].forEach(function (image) { if (image) { data.images[+image.dataset.image] = image.src; } });

  function chosen(group) { return group.querySelector("input:checked").value; }

  // an option that no map has, under what is chosen above it, is not offered
  function offer() {
    var keys = Object.keys(data.views), taken = [];
    groups.forEach(function (group, at) {
      var left = keys.filter(function (key) { var parts = key.split(","); return taken.every(function (value, place) { return parts[place] === value; }); });
      var inputs = Array.prototype.slice.call(group.querySelectorAll("input"));
      inputs.forEach(function (input) {
        input.disabled = !left.some(function (key) { return key.split(",")[at] === input.value; });
        input.parentNode.hidden = input.disabled;
      });
      if (group.querySelector("input:checked").disabled) { inputs.filter(function (input) { return !input.disabled; })[0].checked = true; }
      group.hidden = inputs.length === 1;
      taken.push(chosen(group));
    });
  }

  function show() {
    var view = data.views[groups.map(chosen).join(",")], one = data.cases[+chosen(groups[0])];
    picture.src = data.images[one.picture];
    picture.alt = one.alt;
    heat.src = data.images[view.heat];
    heat.alt = view.alt;
    var there = mask && one.mask !== null;
    if (there) {
      mask.src = data.images[one.mask];
      mask.alt = one.outline;
    }
    if (mask) { mask.hidden = !there || !outlined.checked; }
    var words = one.alt + " " + view.alt + (mask && outlined.checked ? " " + (there ? one.outline : "There is no lesion to outline.") : "");
    if (description.textContent !== words) { description.textContent = words; }
  }

  function fade() {
    heat.style.opacity = opacity.value / 100;
    controls.querySelector("output").textContent = opacity.value + " %";
  }

  controls.addEventListener("submit", function (event) { event.preventDefault(); });
  controls.addEventListener("change", function () { offer(); show(); });
  opacity.addEventListener("input", fade);
  controls.hidden = false;
  offer();
  show();
  fade();
}());
