// What the reference tokenizer (npm package tokenizers) makes of every Unicode scalar value, a line
// each: code, cleaned, decomposed, stripped, lowered ("=": unchanged, "": gone), the number of
// parts that the pre-tokenizer makes of it between two letters, its combining class.
// usage: node measure_unicode.js > MEASURED        (npm install tokenizers first)
const path = process.cwd();
const t = require(require.resolve('tokenizers', { paths: [path, __dirname] }));
const only = (flag) => t.bertNormalizer(Object.assign(
  { cleanText: false, handleChineseChars: false, stripAccents: false, lowercase: false }, flag));
const S = String.fromCodePoint;
const nfd = t.nfdNormalizer(), split = t.bertPreTokenizer();
const steps = [only({ cleanText: true }), nfd, only({ stripAccents: true }), only({ lowercase: true })];
const hex = (s) => [...s].map((c) => c.codePointAt(0).toString(16)).join(' ');
const moved = (s) => nfd.normalizeString(s) !== s;

// One mark of each combining class, in ascending order, found by how the reference sorts them.
const known = [[1, 0x334], [6, 0x16FF0], [7, 0x93C], [8, 0x3099], [9, 0x94D], [10, 0x5B0], [11, 0x5B1],
  [12, 0x5B2], [13, 0x5B3], [14, 0x5B4], [15, 0x5B5], [16, 0x5B6], [17, 0x5B7], [18, 0x5B8], [19, 0x5B9],
  [20, 0x5BB], [21, 0x5BC], [22, 0x5BD], [23, 0x5BF], [24, 0x5C1], [25, 0x5C2], [26, 0xFB1E], [27, 0x64B],
  [28, 0x64C], [29, 0x64D], [30, 0x64E], [31, 0x64F], [32, 0x650], [33, 0x651], [34, 0x652], [35, 0x670],
  [36, 0x711], [84, 0xC55], [91, 0xC56], [103, 0xE38], [107, 0xE48], [118, 0xEB8], [122, 0xEC8],
  [129, 0xF71], [130, 0xF72], [132, 0xF74], [202, 0x321], [214, 0x1DCE], [216, 0x31B], [218, 0x302A],
  [220, 0x316], [222, 0x59A], [224, 0x302E], [226, 0x1D16D], [228, 0x5AE], [230, 0x300], [232, 0x315],
  [233, 0x35C], [234, 0x35D], [240, 0x345]]
  .filter(([k, c]) => moved('a' + S(0x345) + S(c) + S(0x334) + 'b'));

function combiningClass(c) {
  const x = S(c);
  if (nfd.normalizeString(x) !== x || !moved('a' + S(0x345) + x + S(0x334) + 'b')) return 0;
  for (const [k, mark] of known)
    if (!moved('a' + x + S(mark)) && !moved('a' + S(mark) + x)) return k;
  return -1;
}

const lines = [];
for (let c = 0; c < 0x110000; c++) {
  if (c >= 0xd800 && c < 0xe000) continue;
  const s = 'a' + S(c) + 'b';
  const row = [c.toString(16)];
  for (const n of steps) {
    const r = n.normalizeString(s);
    row.push(r === s ? '=' : hex(r.slice(1, -1)));
  }
  row.push(split.preTokenizeString(s).length, combiningClass(c));
  lines.push(row.join('\t'));
}
process.stdout.write(lines.join('\n') + '\n');
