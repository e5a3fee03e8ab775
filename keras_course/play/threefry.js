// --- random order -----------------------------------------------------------------------------------------------
// The generator of keras_course/randomness/generator.py: Threefry-2x32 with 20 rounds (Salmon et al., 2011), from a key
// and a counter to 64 random bits. "| 0" keeps a sum in 32 bits.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];
const KEY_PARITY = 0x1bd11bda;
const ROUNDS_OF_FOUR = 5;

function rotateLeft(word, distance) {
  return (word << distance) | (word >>> (32 - distance));
}

function threefry([key0, key1], counter0, counter1) {
  const keys = [key0, key1, key0 ^ key1 ^ KEY_PARITY];
  let [word0, word1] = [(counter0 + keys[0]) | 0, (counter1 + keys[1]) | 0];
  for (let group = 0; group < ROUNDS_OF_FOUR; group++) {
    for (const distance of ROTATIONS[group % 2]) {
      word0 = (word0 + word1) | 0;
      word1 = rotateLeft(word1, distance) ^ word0;
    }
    word0 = (word0 + keys[(group + 1) % 3]) | 0;
    word1 = (word1 + keys[(group + 2) % 3] + group + 1) | 0;
  }
  return [word0, word1];
}

// stream_key(seed, "shuffle"): the seed's 64 bits as the key, the words of the name as the counter.
function shuffleKey(seed, nameWords) {
  return threefry([seed >>> 0, Math.floor(seed / 2 ** 32)], ...nameWords);
}

// permutation(key, size, step=epoch): 0 .. size - 1, sorted by random keys.
function permutation(key, size, epoch) {
  const lanes = Math.ceil(size / 2); // each counter yields two words: for the left and the right half
  const pairs = Array.from({ length: lanes }, (_, lane) => threefry(key, lane, epoch));
  const words = [...pairs.map((pair) => pair[0]), ...pairs.map((pair) => pair[1])].slice(0, size);
  return [...words.keys()].sort((i, j) => words[i] - words[j]);
}
