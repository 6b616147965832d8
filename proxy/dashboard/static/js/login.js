const form = document.getElementById("login");
const said = document.getElementById("said");
const key = document.getElementById("key");

function next() {
  return location.hash.startsWith("#/") ? `/dashboard${location.hash}` : "/dashboard";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  said.textContent = "";
  try {
    const answer = await fetch("/dashboard/login", {
      method: "POST", credentials: "same-origin",
      headers: { "content-type": "application/json", "x-weir-csrf": "1" },
      body: JSON.stringify({ key: key.value.trim() }),
    });
    if (answer.ok) { location.assign(next()); return; }
    const body = await answer.json().catch(() => null);
    said.textContent = answer.status === 401 ? "This is not an admin key, or it is not one any more."
      : body?.error?.message ?? `The console answered ${answer.status}.`;
  } catch {
    said.textContent = "The console cannot be reached.";
  }
  button.disabled = false;
  key.select();
});
