/** Fields as a form sends them: lists and objects as JSON. */
export function asForm(fields) {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : value]));
}
