"use strict";
// The pairs of the page. Everything that comes from the report goes in as text or as a number.
(function () {
  const byId = (id) => document.getElementById(id);
  const { pairs, groups, kinds, command, within } = JSON.parse(byId("data").textContent);
  const list = byId("list");
  const tools = byId("tools");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const BLINK_MS = 650;
  const articles = [];
  const searched = [];
  let pictures = null; // 20 MB of text: read when the first picture is shown
  let current = null;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function svg(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    return element;
  }

  function button(className, text, act) {
    const element = make("button", className, text);
    element.type = "button";
    element.addEventListener("click", act);
    return element;
  }

  function picture(number, alt) {
    if (pictures === null) {
      pictures = JSON.parse(byId("pictures").textContent);
      byId("pictures").textContent = "";
    }
    const image = make("img");
    image.alt = alt;
    image.decoding = "async";
    image.draggable = false;
    image.src = "data:image/webp;base64," + pictures[number];
    return image;
  }

  const otherName = (pair) => (pair.set === within ? "other training picture" : "evaluation picture");

  // A frame as wide as its column allows and no taller than the page wants it.
  function frame(size) {
    const box = make("div", "frame");
    const aspect = Math.min(Math.max(size[0] / size[1], 0.4), 3);
    box.style.setProperty("--aspect", aspect.toFixed(4));
    return box;
  }

  // What lies outside the outline is dimmed; two strokes show on light and on dark pictures.
  function drawOutline(outline) {
    const drawing = svg("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", "aria-hidden": "true" });
    const path = "M" + outline.split(" ").join("L") + "Z";
    drawing.append(
      svg("path", { d: "M0,0H1000V1000H0Z" + path, class: "outside" }),
      svg("path", { d: path, class: "under" }),
      svg("path", { d: path, class: "line" })
    );
    return drawing;
  }

  // Where a point of the unit square comes to lie, null behind the horizon.
  function carry(m, x, y) {
    const w = m[6] * x + m[7] * y + m[8];
    return w > 0 ? [(m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w] : null;
  }

  // The evaluation picture's top left corner, a little inwards, in both: shows mirroring and turning.
  function drawCorner(box, point) {
    if (!point || point[0] < 0 || point[0] > 1 || point[1] < 0 || point[1] > 1) return;
    const dot = make("i", "corner");
    dot.style.left = 100 * point[0] + "%";
    dot.style.top = 100 * point[1] + "%";
    box.append(dot);
  }

  function showPicture(pair, side) {
    const figure = make("figure");
    const size = pair.sizes[side];
    const name = side ? pair.name : pair.train;
    const role = side ? otherName(pair) : "training picture";
    const box = frame(size);
    const outline = pair.outlines && pair.outlines[side];
    if (pair.pictures[side] === null) {
      box.classList.add("absent");
      box.append(make("span", "", pair.notes[side] || "picture not here"));
    } else {
      const region = outline ? "; outlined is where the other picture lies on it" : "";
      box.append(picture(pair.pictures[side], role + " " + name + region));
    }
    if (outline) box.append(drawOutline(outline));
    if (pair.matrix) drawCorner(box, side ? [0.04, 0.04] : carry(pair.matrix, 0.04, 0.04));
    const caption = make("figcaption");
    caption.append(make("b", "", role), " ", make("span", "", size[0] + " × " + size[1] + " px"));
    const code = make("code", "", name);
    code.title = name;
    caption.append(code);
    if (pair.notes[side] && pair.pictures[side] !== null) caption.append(make("em", "", pair.notes[side]));
    figure.append(box, caption);
    return figure;
  }

  // The transform from unit square to unit square, as CSS wants it for a box of these pixels.
  function cssTransform(m, width, height) {
    const s = m[8] || 1e-9;
    const [a, b, c, d, e, f, g, h] = [
      m[0] / s, (m[1] / s) * (width / height), (m[2] / s) * width,
      (m[3] / s) * (height / width), m[4] / s, (m[5] / s) * height,
      m[6] / s / width, m[7] / s / height,
    ];
    if (Math.abs(m[6]) + Math.abs(m[7]) < 1e-7 * Math.abs(m[8])) {
      return "matrix(" + [a, d, b, e, c, f].map((v) => v.toFixed(8)).join(",") + ")";
    }
    return "matrix3d(" + [a, d, 0, g, b, e, 0, h, 0, 0, 1, 0, c, f, 0, 1].map((v) => v.toFixed(12)).join(",") + ")";
  }

  const resized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const { width, height } = entry.contentRect;
      if (width && height) entry.target.fit(width, height);
    }
  });

  function showComparison(pair) {
    const figure = make("figure", "comparison");
    const stage = frame(pair.sizes[0]);
    stage.classList.add("stage");
    const layer = make("div", "layer");
    const warped = picture(pair.pictures[1], "");
    const role = otherName(pair);
    stage.setAttribute("role", "img");
    stage.setAttribute("aria-label", "the " + role + " laid over the training picture");
    stage.fit = (width, height) => (warped.style.transform = cssTransform(pair.matrix, width, height));
    layer.append(warped);
    stage.append(picture(pair.pictures[0], ""), layer, make("i", "cut"), make("span", "tag", ""));
    resized.observe(stage);

    const swipe = make("input");
    swipe.type = "range";
    swipe.min = 0;
    swipe.max = 1000;
    swipe.value = 500;
    swipe.setAttribute("aria-label", "Swipe between the training picture and the " + role);
    let timer = 0;
    let over = true;
    const tag = stage.lastChild;

    function cut() {
      stage.style.setProperty("--cut", swipe.value / 10 + "%");
    }
    function alternate() {
      over = !over;
      layer.style.visibility = over ? "" : "hidden";
      tag.textContent = over ? role : "training picture";
    }
    function setView(view) {
      clearInterval(timer);
      timer = 0;
      over = true;
      layer.style.visibility = "";
      tag.textContent = "";
      stage.dataset.view = view;
      blink.setAttribute("aria-pressed", view === "blink");
      difference.setAttribute("aria-pressed", view === "difference");
      if (view !== "blink") return;
      alternate();
      // Whoever wants no motion changes the picture himself, one press a change.
      if (!still.matches) timer = setInterval(alternate, BLINK_MS);
    }
    const blink = button("", "Blink", () => {
      if (stage.dataset.view === "blink" && still.matches) alternate();
      else setView(stage.dataset.view === "blink" ? "swipe" : "blink");
    });
    const difference = button("", "Difference", () => {
      setView(stage.dataset.view === "difference" ? "swipe" : "difference");
    });
    blink.title = "Show one and the other in turn (b)";
    difference.title = "Black where both are the same";
    swipe.addEventListener("input", () => {
      if (stage.dataset.view !== "swipe") setView("swipe");
      cut();
    });
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      swipe.value = (1000 * (event.clientX - box.left)) / box.width;
      if (stage.dataset.view !== "swipe") setView("swipe");
      cut();
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    cut();
    setView("swipe");

    const controls = make("div", "controls");
    controls.append(swipe, blink, difference);
    const caption = make("figcaption");
    caption.append(make("b", "", "one over the other"), " ", make("span", "", "left: training · right: " + role));
    if (pair.lies) caption.append(make("span", "lies", "laid over it " + pair.lies));
    figure.append(stage, controls, caption);
    figure.blink = () => blink.click();
    figure.stop = () => timer && setView("swipe");
    return figure;
  }

  function copyButton(text, source) {
    return button("copy", "Copy", function () {
      const done = () => {
        this.textContent = "Copied";
        setTimeout(() => (this.textContent = "Copy"), 1500);
      };
      const byHand = () => {
        getSelection().selectAllChildren(source);
        if (document.execCommand("copy")) done();
      };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand);
      else byHand();
    });
  }

  // The parts of a pair that cost something, made when it comes near the window.
  function fill(article) {
    if (article.filled) return;
    article.filled = true;
    const pair = pairs[article.number - 1];
    const row = make("div", "three");
    row.append(showPicture(pair, 0), showPicture(pair, 1));
    if (pair.matrix && pair.pictures[0] !== null && pair.pictures[1] !== null) {
      article.comparison = showComparison(pair);
      row.append(article.comparison);
    } else {
      const lack = pair.matrix ? "One of the pictures is not here, so nothing can be laid over the other." : "The two were not aligned: there is no transform between them.";
      row.append(make("p", "note", lack));
    }
    const evidence = make("dl", "evidence");
    for (const [label, value] of pair.facts) {
      const item = make("div");
      item.append(make("dt", "", label), make("dd", "", value));
      evidence.append(item);
    }
    const remove = make("p", "remove");
    if (pair.confirmed) {
      const code = make("code", "", command);
      remove.append("Build without ");
      pair.goes.forEach((key, index) => remove.append(index ? " and " : "", make("code", "", key)));
      remove.append(pair.goes.length ? ": " : "it: ", code, " ", copyButton(command, code));
    } else {
      remove.append("A hint to look at. It changes no verdict, and nothing is removed for it.");
    }
    article.append(row, evidence, remove);
    article.classList.add("filled");
  }

  function makeArticle(pair, number) {
    const article = make("article", "pair");
    article.id = "p" + number;
    article.number = number;
    article.tabIndex = -1;
    const head = make("h4");
    const anchor = make("a", "number", "#" + number);
    anchor.href = "#p" + number;
    anchor.setAttribute("aria-label", "Link to pair " + number);
    const names = make("span", "names");
    names.append(make("code", "", pair.train), " ↔ ");
    names.append(make("span", "muted", pair.set === within ? "" : pair.set), " ", make("code", "", pair.name));
    head.append(
      anchor, " ",
      make("span", pair.confirmed ? "chip bad" : "chip plain", pair.confirmed ? "confirmed" : "hint"), " ",
      make("strong", "", kinds[pair.kind]), " ", names
    );
    article.append(head, make("p", "reason", pair.reason));
    return article;
  }

  function build() {
    const sections = document.createDocumentFragment();
    let index = 0;
    for (const [count, numPictures] of groups) {
      const first = index;
      let section = sections.lastChild;
      const alone = count === 1;
      // Single pairs stand in one section, confirmed ones and hints apart.
      const state = pairs[first].confirmed ? "confirmed" : "hints";
      if (!alone || !section || section.dataset.alone !== state) {
        section = make("section", "group");
        if (alone) section.dataset.alone = state;
        const title = alone
          ? (state === "hints" ? "Hints that stand alone" : "Confirmed pairs that stand alone")
          : count + " pairs of " + numPictures + " pictures that hang together";
        section.append(make("h3", "", title));
        sections.append(section);
      }
      for (; index < first + count; index++) {
        const pair = pairs[index];
        const article = makeArticle(pair, index + 1);
        articles.push(article);
        searched.push([pair.train, pair.name, pair.set, pair.reason].join("\n").toLowerCase());
        section.append(article);
      }
    }
    list.append(sections);
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(tools));
    const text = wanted.text.trim().toLowerCase();
    let count = 0;
    pairs.forEach((pair, index) => {
      const shown =
        (!wanted.state || pair.confirmed === (wanted.state === "confirmed")) &&
        (!wanted.kind || pair.kind === wanted.kind) &&
        (!wanted.set || pair.set === wanted.set) &&
        (!wanted.source || pair.source === wanted.source) &&
        (!text || searched[index].includes(text));
      articles[index].hidden = !shown;
      count += shown;
    });
    for (const section of list.children) section.hidden = !section.querySelector("article:not([hidden])");
    const all = pairs.length.toLocaleString("en");
    tools.querySelector("output").textContent =
      count === pairs.length ? all + (count === 1 ? " pair" : " pairs") : count.toLocaleString("en") + " of " + all + " pairs";
  }

  function select(article) {
    if (current && current.comparison && current !== article) current.comparison.stop();
    if (current) current.classList.remove("current");
    current = article;
    article.classList.add("current");
  }

  // Neighbours are filled first: what grows above the target would push it away.
  function goTo(article) {
    const index = article.number - 1;
    for (const near of articles.slice(Math.max(0, index - 2), index + 3)) if (!near.hidden) fill(near);
    select(article);
    article.scrollIntoView({ block: "start", behavior: "instant" });
    requestAnimationFrame(() => article.scrollIntoView({ block: "start", behavior: "instant" }));
    article.focus({ preventScroll: true });
  }

  function step(direction) {
    const shown = articles.filter((article) => !article.hidden);
    const at = current ? shown.indexOf(current) : -1;
    const next = current && at < 0 ? shown[0] : shown[at + direction];
    if (!next) return;
    goTo(next);
    history.replaceState(null, "", "#" + next.id);
  }

  function followHash() {
    const match = /^#p(\d+)$/.exec(location.hash);
    const article = match && articles[match[1] - 1];
    if (!article) return;
    if (article.hidden) {
      tools.reset();
      filter();
    }
    goTo(article);
  }

  build();
  tools.hidden = false;
  filter();
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) fill(target);
        else if (target.comparison) target.comparison.stop();
      }
    },
    { rootMargin: "900px 0px" }
  );
  for (const article of articles) {
    seen.observe(article);
    article.addEventListener("pointerdown", () => select(article));
    article.addEventListener("focusin", () => select(article));
  }
  for (const spare of document.querySelectorAll("p.remove > button[hidden]")) {
    spare.replaceWith(copyButton(command, byId("command")));
  }
  tools.addEventListener("input", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", followHash);
  addEventListener("keydown", (event) => {
    const at = event.target;
    const typing = at.matches && at.matches("select, textarea, input:not([type=range])");
    if (event.key === "Escape" && typing) at.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "b" && current && current.comparison) current.comparison.blink();
    else if (event.key === "/") tools.elements.text.focus();
    else return;
    event.preventDefault();
  });
  // On paper the first pairs with pictures, the others in words.
  addEventListener("beforeprint", () => articles.filter((a) => !a.hidden).slice(0, 200).forEach(fill));
  followHash();
})();
