-- Every spelling of a drug in the orders, with its canonical name.
--
-- Grain:  one row per spelling
-- Key:    spelling
-- Inputs: raw.prescriptions
-- Known:  always
-- Source: MIMIC-IV v3.1, hosp.prescriptions; normalise_drug is etl/drugs.py's
--
-- "LORazepam", "Lorazepam " and "lorazepam" are one drug. A spelling of which nothing is left has no name.

WITH spellings AS (
    SELECT DISTINCT drug AS spelling
    FROM raw.prescriptions
    WHERE drug IS NOT NULL
)

SELECT
    spelling,
    nullif(normalise_drug(spelling), '') AS drug
FROM spellings
