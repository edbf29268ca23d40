/** Skeletons in CSV files, as DeepPoseKit has them: name, parent, swap. */

/**
 * @param {string} text
 * @returns {{name: string, parent: string, swap: string}[]}
 * @throws {Error} With a sentence for the user.
 */
export function readSkeletonCsv(text) {
  const [header = [], ...lines] = cells(text.replace(/^\uFEFF/, ""));
  const columns = header.map((name) => name.trim().toLowerCase());
  const at = (name) => columns.indexOf(name);
  if (at("name") < 0) {
    throw new Error(`expected the columns name, parent, swap; found ${header.join(", ") || "nothing"}`);
  }
  const rows = lines
    .map((line) => {
      const cell = (name) => (at(name) < 0 ? "" : (line[at(name)] ?? "").trim());
      return { name: cell("name"), parent: cell("parent"), swap: cell("swap") };
    })
    .filter(({ name, parent, swap }) => name || parent || swap);
  if (!rows.length) throw new Error("expected a keypoint a line, found none");
  return rows;
}

/**
 * @param {{name: string, parent: string, swap: string}[]} rows
 */
export function writeSkeletonCsv(rows) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = rows.map(({ name, parent, swap }) => [name, parent, swap].map(quoted).join(","));
  return `name,parent,swap\n${lines.join("\n")}\n`;
}

/** @param {string} text @returns {string[][]} */
function cells(text) {
  const [first = ""] = text.split(/\r?\n/, 1);
  const comma = first.includes(",") || !first.includes(";") ? "," : ";";
  const lines = [];
  let line = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const sign = text[i];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (sign === '"' && cell.trim() === "") {
      cell = "";
      quoted = true;
    } else if (sign === comma) {
      line.push(cell);
      cell = "";
    } else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && text[i + 1] === "\n") i += 1;
      lines.push([...line, cell]);
      [line, cell] = [[], ""];
    } else cell += sign;
  }
  if (cell || line.length) lines.push([...line, cell]);
  return lines;
}
