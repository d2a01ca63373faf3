// Requests to this listener, with the token if there is one.

const TOKEN = "larder-token";

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const setToken = (token) => sessionStorage.setItem(TOKEN, token);
export const forgetToken = () => sessionStorage.removeItem(TOKEN);

export async function ask(target, content) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { authorization: "Bearer " + token } : {};
  const sent = content === undefined ? {} : { method: "POST", body: JSON.stringify(content) };
  if (content !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(target, { headers, cache: "no-store", ...sent })
    .catch(() => { throw Object.assign(new Error("larder is unreachable"), { isUnreachable: true }); });
  if (answer.ok) return answer.json();
  const refusal = await answer.json().catch(() => ({ error: "HTTP status " + answer.status, fix: "" }));
  throw Object.assign(new Error(refusal.error), { status: answer.status, fix: refusal.fix });
}
