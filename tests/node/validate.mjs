// Reads a JSON array of FHIR R4 resources from stdin and prints the validator's errors, one JSON object a line.
// Warnings are left out: every code of a system that the validator does not hold gives one.
import { readFileSync } from "node:fs";
import fhirPackage from "fhir";

const validator = new fhirPackage.Fhir();
const resources = JSON.parse(readFileSync(0, "utf8"));
for (const [position, resource] of resources.entries()) {
  const { messages } = validator.validate(resource, { errorOnUnexpected: true });
  for (const { location, message, severity } of messages) {
    if (severity === "error" || severity === "fatal") {
      console.log(JSON.stringify({ position, location, message }));
    }
  }
}
