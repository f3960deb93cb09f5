// Bundles the third-party parts into static/dist, which is committed: running vmmanager needs no Node. Same input, same bytes.
// `node build.mjs` writes; `node build.mjs --check` fails where what is committed differs from what these versions give.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../static/dist");
const modules = join(here, "node_modules");

// What a page loads → what is in it. Own modules (static/js) are not bundled: they are served as they are written.
const BUNDLES = {
  "htmx.js": { file: "htmx.org/dist/htmx.min.js" },
  "xterm.js": {
    code: `export { Terminal } from "@xterm/xterm";
           export { FitAddon } from "@xterm/addon-fit";
           export { SearchAddon } from "@xterm/addon-search";`,
  },
  "xterm.css": { css: "@xterm/xterm/css/xterm.css" },
  "novnc.js": { code: `export { default as RFB } from "@novnc/novnc";` },
};
// Licence texts go with the parts. The parts inside noVNC (pako and others) are named in its own LICENSE.txt.
const LICENCES = {
  "htmx.org": ["LICENSE"],
  "@xterm/xterm": ["LICENSE"],
  "@xterm/addon-fit": ["LICENSE"],
  "@xterm/addon-search": ["LICENSE"],
  "@novnc/novnc": ["LICENSE.txt", "docs/LICENSE.MPL-2.0", "vendor/pako/LICENSE", "lib/vendor/pako/LICENSE"],
};

/** @param {string} name */
async function read(name) {
  return readFile(join(modules, name), "utf8");
}

async function bundles() {
  const files = new Map();
  const options = {
    bundle: true,
    minify: true,
    write: false,
    legalComments: "none",
    target: "es2022",
    charset: "utf8",
  };
  for (const [name, part] of Object.entries(BUNDLES)) {
    if (part.file) {
      files.set(name, await read(part.file));
      continue;
    }
    const result = await build({
      ...options,
      format: "esm",
      ...(part.css
        ? { entryPoints: [join(modules, part.css)] }
        : { stdin: { contents: part.code, resolveDir: here, loader: "js" } }),
    });
    files.set(name, result.outputFiles[0].text);
  }
  return files;
}

async function licences() {
  let text = "Third-party parts in this directory, and their licences.\n";
  for (const [name, candidates] of Object.entries(LICENCES)) {
    const { version, license } = JSON.parse(await read(`${name}/package.json`));
    text += `\n${"=".repeat(80)}\n${name} ${version} (${license})\n${"=".repeat(80)}\n`;
    let found = 0;
    for (const file of candidates) {
      const content = await read(`${name}/${file}`).catch(() => null);
      if (content === null) continue;
      found += 1;
      text += `\n${content.trim()}\n`;
    }
    if (!found) throw new Error(`no licence text in ${name}`);
  }
  return text;
}

const files = await bundles();
files.set("LICENSES.txt", await licences());

if (process.argv.includes("--check")) {
  const stale = [];
  for (const [name, text] of files) {
    const committed = await readFile(join(out, name), "utf8").catch(() => null);
    if (committed !== text) stale.push(name);
  }
  for (const name of await readdir(out)) if (!files.has(name)) stale.push(`${name} (nobody makes it)`);
  if (stale.length) {
    console.error(`static/dist is not what frontend/ makes: ${stale.join(", ")}. Run "make frontend" and commit.`);
    process.exit(1);
  }
  console.log(`static/dist is current: ${files.size} files`);
} else {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  for (const [name, text] of files) await writeFile(join(out, name), text);
  console.log(
    [...files].map(([name, text]) => `${name} ${(Buffer.byteLength(text) / 1024).toFixed(0)} KiB`).join("\n"),
  );
}
