/**
 * View the dashboards without Grafana: serve the page, or save a picture of each dashboard.
 *
 *     node preview.mjs                                             serve at http://127.0.0.1:3001/?dashboard=gateway
 *     node preview.mjs --pictures FOLDER [--theme light] [--minutes 15] [--to SECONDS] [--only overview,gateway]
 *
 * PROMETHEUS_URL: the Prometheus to query (default http://127.0.0.1:9090). CHROMIUM: the browser to use.
 */
import { createServer } from 'node:http';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { parseArgs } from 'node:util';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import UPNG from 'upng-js';

const HERE = import.meta.dirname;
const PACKAGES = join(HERE, 'node_modules');
// Paths of Grafana's assets -> their folders here.
const FOLDERS = {
  '/dashboards/': join(HERE, '..', 'dashboards'),
  '/public/build/img/icons/': join(PACKAGES, '@grafana', 'ui', 'dist', 'public', 'img', 'icons'),
  '/public/fonts/inter/': join(PACKAGES, '@fontsource', 'inter', 'files'),
};
const FONTS = { 'Inter-Regular.woff2': 'inter-latin-400-normal.woff2', 'Inter-Medium.woff2': 'inter-latin-500-normal.woff2' };
const PROMETHEUS = process.env.PROMETHEUS_URL ?? 'http://127.0.0.1:9090';
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const WIDTH = 1600;
const TYPES = { json: 'application/json', svg: 'image/svg+xml', js: 'text/javascript', css: 'text/css' };

/** Returns the page with all its imports, as text by name. */
async function bundled() {
  const made = await build({
    entryPoints: [join(HERE, 'page.tsx')],
    bundle: true,
    write: false,
    minify: true,
    outdir: HERE,
    format: 'esm',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    loader: { '.ttf': 'empty' }, // of an editor that is not used here
    logLevel: 'error',
  });
  const files = Object.fromEntries(made.outputFiles.map(({ path, text }) => [path.slice(HERE.length), text]));
  const style = '/page.css' in files ? '<link rel="stylesheet" href="/page.css">' : '';
  return { ...files, '/': `<!doctype html>${style}<body><script type="module" src="/page.js"></script>` };
}

async function answer(files, url) {
  if (url.pathname.startsWith('/api/')) return (await fetch(`${PROMETHEUS}${url.pathname}${url.search}`)).text();
  if (url.pathname in files) return files[url.pathname];
  const path = normalize(url.pathname); // never above the root
  const root = Object.keys(FOLDERS).find((folder) => path.startsWith(folder)) ?? '/dashboards/';
  const name = path.slice(root.length);
  return readFileSync(join(FOLDERS[root], FONTS[name] ?? name));
}

async function serve(port) {
  const files = await bundled();
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://127.0.0.1');
    const type = TYPES[url.pathname.split('.').at(-1)] ?? 'text/html; charset=utf-8';
    answer(files, url).then(
      (body) => response.writeHead(200, { 'content-type': type }).end(body),
      (error) => response.writeHead(error.code === 'ENOENT' ? 404 : 502).end(`${error}`),
    );
  });
  await new Promise((listening) => server.listen(port, '127.0.0.1', listening));
  return server;
}

/** Converts a picture to 256 colours, which need a third of the bytes. */
function small(png) {
  const { buffer, byteOffset, byteLength } = png;
  const picture = UPNG.decode(buffer.slice(byteOffset, byteOffset + byteLength));
  return Buffer.from(UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, 256));
}

async function pictures(folder, names, query) {
  const server = await serve(0);
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
      ...['--disable-background-networking', '--disable-component-update'],
    ],
  });
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 900 } });
  page.on('pageerror', (error) => console.error(`${error}`));
  page.on('response', (answer) => answer.ok() || console.error(`${answer.status()} ${answer.url()}`));
  mkdirSync(folder, { recursive: true });
  for (const dashboard of names) {
    const params = new URLSearchParams({ ...query, dashboard, width: `${WIDTH}` });
    await page.goto(`http://127.0.0.1:${server.address().port}/?${params}`);
    const drawn = page.locator('#drawn');
    await drawn.waitFor({ timeout: 60_000 });
    await page.waitForTimeout(500); // legends are measured before graphs are drawn
    const path = join(folder, `${dashboard}-${query.theme}.png`);
    writeFileSync(path, small(await drawn.screenshot()));
    console.log(path);
  }
  await browser.close();
  server.close();
}

const { values: options } = parseArgs({
  options: {
    pictures: { type: 'string' },
    theme: { type: 'string', default: 'dark' },
    minutes: { type: 'string', default: '15' },
    to: { type: 'string' },
    only: { type: 'string' },
    port: { type: 'string', default: '3001' },
  },
});
const { pictures: folder, only, port, ...query } = options;
const every = readdirSync(FOLDERS['/dashboards/']).map((name) => name.replace('.json', ''));
if (folder) await pictures(folder, only?.split(',') ?? every, query);
else {
  await serve(Number(port));
  console.log(`http://127.0.0.1:${port}/?dashboard=overview&theme=dark&minutes=15`);
}
