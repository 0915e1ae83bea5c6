// Elements from data. Text is only ever set as text, so that nothing a device says can become markup.

export function el(name, attributes, ...children) {
	const [tag, ...classes] = name.split(".");
	const node = document.createElement(tag || "div");
	if (classes.length)
		node.className = classes.join(" ");
	for (const [key, value] of Object.entries(attributes ?? {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (key.startsWith("on"))
			node.addEventListener(key.slice(2), value);
		else
			node.setAttribute(key, value === true ? "" : value);
	}
	node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
	return node;
}

export function svg(name, attributes, ...children) {
	const node = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const [key, value] of Object.entries(attributes))
		node.setAttribute(key, value);
	node.append(...children);
	return node;
}

// A mark as well as a colour, so that posture is never told by colour alone.
const marks = { untrusted: "✖", silent: "◌", degraded: "▲", unknown: "?", operational: "✔" };
export const postures = Object.keys(marks);

export function posture(name) {
	return el(`span.posture.${postures.includes(name) ? name : "unknown"}`, {}, `${marks[name] ?? "?"} ${name}`);
}

const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
export function ago(time) {
	if (!time)
		return el("span.soft", {}, "never");
	const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
	const [size, unit] = units.find(([least]) => seconds >= least) ?? [1, "s"];
	return el("time", { datetime: time, title: time }, `${Math.floor(seconds / size)} ${unit} ago`);
}

export function table(columns, rows, empty) {
	if (!rows.length)
		return el("p.empty", {}, empty);
	return el("div.scroll", {}, el("table", {},
		el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: c.right && "right" }, c.title)))),
		el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((c) => el("td", { class: c.right ? "right" : c.mono && "mono" }, c.cell(row) ?? "")))))));
}

export function bytes(n) {
	return n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
}
