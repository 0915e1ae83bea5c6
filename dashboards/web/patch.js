// Makes what is on the screen into what it should be with as few changes as possible, so that focus, selection, scroll positions and half
// typed text stay where they are.

const handlers = ["onclick", "onsubmit", "onchange"];
const key = (node) => node.dataset?.key;
const alike = (a, b) => a.nodeName === b.nodeName && key(a) === key(b) && a.id === b.id;

function update(old, fresh) {
	if (old.nodeType === Node.TEXT_NODE) {
		if (old.data !== fresh.data)
			old.data = fresh.data;
		return;
	}
	for (const { name } of [...old.attributes])
		if (!fresh.hasAttribute(name) && name !== "open")
			old.removeAttribute(name);
	for (const { name, value } of fresh.attributes)
		if (old.getAttribute(name) !== value)
			old.setAttribute(name, value);
	for (const name of handlers)
		old[name] = fresh[name];
	patch(old, [...fresh.childNodes]);
}

// Rows that have a key keep their element, wherever they stand; everything else is matched by its place.
export function patch(parent, nodes) {
	const wanted = new Set(nodes.map(key).filter(Boolean));
	const keyed = new Map();
	for (const old of [...parent.childNodes])
		if (key(old))
			wanted.has(key(old)) ? keyed.set(key(old), old) : old.remove();
	let at = parent.firstChild;
	for (const node of nodes) {
		const match = key(node) ? keyed.get(key(node)) : at && alike(at, node) ? at : null;
		if (!match) {
			parent.insertBefore(node, at);
			continue;
		}
		if (match === at)
			at = at.nextSibling;
		else
			parent.insertBefore(match, at);
		update(match, node);
	}
	while (at) {
		const next = at.nextSibling;
		at.remove();
		at = next;
	}
}
