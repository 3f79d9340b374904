(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const live = document.getElementById("live");

  function show(x, y, text) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x + 14), window.innerWidth - box.width - 8);
    const top = y + 18 + box.height > window.innerHeight ? y - box.height - 12 : y + 18;
    tip.style.left = left + "px";
    tip.style.top = Math.max(8, top) + "px";
  }

  let hot = [];
  function light(elements) {
    hot.forEach((e) => e.classList.remove("hot"));
    hot = elements;
    hot.forEach((e) => e.classList.add("hot"));
  }
  const sameMember = (e) => (e.dataset.m ? [...document.querySelectorAll(`[data-m="${e.dataset.m}"]`)] : [e]);
  let pinned = []; // what was clicked stays lit
  function clear() {
    tip.hidden = true;
    light(pinned);
  }
  function pin(mark) {
    pinned = mark && !pinned.includes(mark) ? sameMember(mark) : [];
    light(pinned);
  }
  const isOff = (e) => e.classList.contains("off");

  // Charts: marks with their places as shares of the plot. A line has many places.
  function places(mark) {
    const n = (name) => parseFloat(mark.getAttribute(name)) / 100;
    if (mark.tagName === "circle") return [[n("cx"), n("cy")]];
    if (mark.tagName === "rect") return [[n("x") + n("width") / 2, n("y") + n("height") / 2]];
    const numbers = mark.getAttribute("d").match(/-?\d+/g).map((t) => t / 1000);
    return numbers.flatMap((x, i) => (i % 2 ? [] : [[x, numbers[i + 1]]]));
  }
  for (const chart of document.querySelectorAll("svg[data-explore]")) {
    const marks = [...chart.querySelectorAll("[data-tip]")].map((e) => ({ e, at: places(e) }));
    let current = -1;
    const point = (mark, x, y) => {
      light([...new Set([...pinned, ...sameMember(mark.e)])]);
      show(x, y, mark.e.dataset.tip);
    };
    const markAt = (event) => {
      const box = chart.getBoundingClientRect();
      const px = event.clientX - box.left, py = event.clientY - box.top;
      let best = null, nearest = 28;
      for (const mark of marks) {
        if (isOff(mark.e)) continue;
        const handicap = mark.e.tagName === "rect" ? 10 : mark.e.tagName === "path" ? 4 : 0;
        for (const [fx, fy] of mark.at) {
          const distance = Math.hypot(fx * box.width - px, fy * box.height - py) + handicap;
          if (distance < nearest) [best, nearest] = [mark, distance];
        }
      }
      return best;
    };
    chart.addEventListener("pointermove", (event) => {
      const mark = markAt(event);
      if (mark) point(mark, event.clientX, event.clientY);
      else clear();
    });
    chart.addEventListener("click", (event) => {
      const mark = markAt(event);
      pin(mark && mark.e);
      if (mark) show(event.clientX, event.clientY, mark.e.dataset.tip);
    });
    chart.addEventListener("pointerleave", clear);
    chart.addEventListener("blur", clear);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") { pin(null); clear(); }
      if (event.key === "Enter" && current >= 0) pin(marks[current].e);
      const seen = marks.filter((mark) => !isOff(mark.e));
      if (!step || !seen.length) return;
      event.preventDefault();
      const place = Math.min(Math.max(0, seen.indexOf(marks[current]) + step), seen.length - 1);
      current = marks.indexOf(seen[place]);
      const mark = marks[current], box = chart.getBoundingClientRect();
      const [fx, fy] = mark.at[mark.at.length - 1];
      point(mark, box.left + fx * box.width, box.top + fy * box.height);
      live.textContent = `${place + 1} of ${seen.length}: ${mark.e.dataset.tip}`;
    });
  }

  // Legends: each name becomes a button that hides what it stands for, in the charts of its section.
  for (const item of document.querySelectorAll(".key li[data-of]")) {
    const marks = [...item.closest("section").querySelectorAll(`.plot .${item.dataset.of}`)];
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(...item.childNodes);
    item.append(button);
    item.parentElement.removeAttribute("aria-hidden");
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!off));
      marks.forEach((mark) => mark.classList.toggle("off", off));
    });
  }

  // The heatmap: one number for every pair, the lower triangle row by row.
  for (const cells of document.querySelectorAll(".heat .cells")) {
    const bytes = Uint8Array.from(atob(cells.dataset.values), (c) => c.charCodeAt(0));
    const values = new Uint16Array(bytes.buffer);
    const count = Number(cells.dataset.count);
    const mark = cells.querySelector(".mark");
    let at = [1, 0];
    const point = (i, j, say) => {
      at = [i, j];
      const box = cells.getBoundingClientRect(), side = box.width / count;
      mark.hidden = false;
      mark.style.cssText = `left:${(100 * j) / count}%;top:${(100 * i) / count}%;width:${100 / count}%;height:${100 / count}%`;
      const [a, b] = i > j ? [i, j] : [j, i];
      const text = i === j ? `member ${i + 1}` : `members ${i + 1} and ${j + 1}: ${(values[(a * (a - 1)) / 2 + b] / 100).toFixed(2)} % of the rows`;
      show(box.left + (j + 0.5) * side, box.top + (i + 0.5) * side, text);
      if (say) live.textContent = text;
    };
    const leave = () => { clear(); mark.hidden = true; };
    cells.addEventListener("pointermove", (event) => {
      const box = cells.getBoundingClientRect();
      const cell = (x, size) => Math.min(count - 1, Math.max(0, Math.floor((x / size) * count)));
      point(cell(event.clientY - box.top, box.height), cell(event.clientX - box.left, box.width), false);
    });
    cells.addEventListener("pointerleave", leave);
    cells.addEventListener("blur", leave);
    cells.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
      if (event.key === "Escape") leave();
      if (!down && !right) return;
      event.preventDefault();
      const inside = (x) => Math.min(count - 1, Math.max(0, x));
      point(inside(at[0] + down), inside(at[1] + right), true);
    });
  }

  // Tables: headers become buttons that sort; a field that filters.
  const value = (row, column) => {
    const cell = row.cells[column], data = cell.querySelector("data");
    return data ? Number(data.value) : cell.textContent.trim() === "–" ? null : cell.textContent.trim();
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      if (head.querySelector(".sr")) return; // a picture
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // The best first, then the other way round.
        const rising = head.ariaSort ? head.ariaSort === "descending" : !("high" in head.dataset);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null); // unknown last, both ways
          if (typeof a !== typeof b) return (typeof a === "string") - (typeof b === "string");
          const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
          return rising ? order : -order;
        });
        body.append(...keyed.map(([, row]) => row));
        live.textContent = `sorted by ${button.textContent}, ${rising ? "ascending" : "descending"}`;
      });
    });
    body.addEventListener("pointerover", (event) => {
      const row = event.target.closest("tr[data-m]");
      if (row) light(sameMember(row));
    });
    body.addEventListener("pointerleave", clear);
  }

  // Tables that scroll name the columns that are not seen.
  for (const box of document.querySelectorAll(".scroll")) {
    const heads = [...(box.querySelector("thead tr:last-child") || { cells: [] }).cells].filter((head) => !head.querySelector(".sr"));
    const line = document.createElement("p");
    line.className = "more";
    line.setAttribute("aria-hidden", "true");
    box.before(line);
    const look = () => {
      const end = box.getBoundingClientRect().right;
      const unseen = heads.filter((head) => head.getBoundingClientRect().right > end + 12);
      const names = unseen.map((head) => head.textContent.trim()).filter((name) => name);
      line.hidden = !unseen.length;
      const some = names.slice(0, 4).join(", ") + (names.length > 4 ? " …" : "");
      line.textContent = `scroll right for ${unseen.length} more column${unseen.length > 1 ? "s" : ""}: ${some} →`;
    };
    box.addEventListener("scroll", look);
    new ResizeObserver(look).observe(box);
  }
  for (const field of document.querySelectorAll("input[data-filter]")) {
    field.closest(".tools").hidden = false;
    const rows = [...document.getElementById(field.dataset.filter).tBodies[0].rows];
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      field.closest(".tools").querySelector("output").textContent = `${shown} of ${rows.length}`;
    });
  }
})();
