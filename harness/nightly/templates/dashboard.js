// SPDX-License-Identifier: GPL-2.0-or-later
const filter = document.querySelector("input.filter");
if (filter) filter.oninput = () => {
  for (const row of document.querySelectorAll("tr.row"))
    row.hidden = !row.dataset.host.includes(filter.value);
};
