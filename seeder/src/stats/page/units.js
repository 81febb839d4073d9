// Numbers as people read them.

const BINARY = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

// Three digits of a number of bytes.
export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1023.5 && unit < BINARY.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) {
    return `${value} ${value === 1 ? 'byte' : 'bytes'}`;
  }
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${BINARY[unit]}`;
}

export function rate(bytesPerSecond) {
  return `${bytes(bytesPerSecond)}/s`;
}

// The two largest units of a length of time.
export function duration(seconds) {
  if (seconds < 60) {
    return `${Math.round(seconds)} s`;
  }
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = units.findIndex(([length]) => seconds >= length);
  const [length, name] = units[first];
  const whole = Math.floor(seconds / length);
  const [lesser, lesserName] = units[first + 1];
  const rest = Math.floor((seconds % length) / lesser);
  return rest > 0 ? `${whole} ${name} ${rest} ${lesserName}` : `${whole} ${name}`;
}

export function ago(seconds) {
  return seconds < 2 ? 'just now' : `${duration(seconds)} ago`;
}

export function percent(share) {
  return `${(share * 100).toFixed(share > 0 && share < 1 ? 1 : 0)} %`;
}

export function count(number) {
  return number.toLocaleString('en');
}

export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
