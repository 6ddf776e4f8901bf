// ICD codes as they are read: with their dot.

const DOT_AFTER = 3;

/** Return a code with its dot: after three characters, after four where ICD-9 has an E code. */
export function dotted(code, version) {
  const plain = code.replace(".", "").toUpperCase();
  const at = version === 9 && plain.startsWith("E") ? DOT_AFTER + 1 : DOT_AFTER;
  return plain.length > at ? `${plain.slice(0, at)}.${plain.slice(at)}` : plain;
}

export const tagOf = ({ icd_code: code, icd_version: version }) => `ICD-${version} ${dotted(code, version)}`;
