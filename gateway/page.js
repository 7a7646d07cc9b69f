"use strict";
const examples = JSON.parse(document.getElementById("examples").textContent);
const body = document.getElementById("body");
const answer = document.getElementById("answer");

function show(name) {
  body.value = JSON.stringify(examples[name], null, 2).replaceAll(examples.now, new Date().toISOString());
}

for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => show(button.dataset.example));
}
document.getElementById("post").addEventListener("click", async () => {
  answer.textContent = "Posting…";
  try {
    const response = await fetch("/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: body.value });
    const text = await response.text();
    answer.textContent = `${response.status} ${response.statusText}\n`;
    answer.textContent += JSON.stringify(JSON.parse(text), null, 2);
  } catch (error) {
    answer.textContent += `No response from the gateway: ${error}`;
  }
});
show(document.querySelector("[data-example]").dataset.example);
