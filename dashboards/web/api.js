// The collector's HTTP interface. The token lives in this module's memory only: a reload forgets it.

let token = "";

export class Problem extends Error {
	constructor(status, title, detail) {
		super(detail || title);
		this.status = status;
	}
}

export function setToken(value) {
	token = value;
}

async function ask(path, parameters, signal) {
	const query = new URLSearchParams();
	for (const [key, value] of Object.entries(parameters ?? {}))
		if (value)
			query.set(key, value);
	const url = query.size ? `${path}?${query}` : path;
	let answer;
	try {
		answer = await fetch(url, { headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", signal });
	} catch (error) {
		if (error.name === "AbortError")
			throw error;
		throw new Problem(0, "no answer", "The collector does not answer.");
	}
	if (answer.ok)
		return answer;
	const problem = await answer.json().catch(() => ({}));
	throw new Problem(answer.status, problem.title ?? answer.statusText, problem.detail);
}

export const get = async (path, parameters, signal) => (await ask(path, parameters, signal)).json();
export const download = async (path) => (await ask(path)).blob();
