-- Every spelling of a drug in the orders, with what it means.
--
-- Grain:  one row per spelling
-- Key:    spelling
-- Inputs: raw.prescriptions, settings
-- Known:  always
-- Source: MIMIC-IV v3.1, hosp.prescriptions; drug_meaning is etl/drug_vocabulary.py's
--
-- "LORazepam", "Lorazepam " and "lorazepam" are one drug; of some spellings nothing is left, they have no label.
-- At the level of ingredients one spelling can be two: "Piperacillin-Tazobactam".

WITH written AS (
    SELECT DISTINCT drug AS spelling
    FROM raw.prescriptions
    WHERE drug IS NOT NULL
),

meant AS (
    SELECT
        spelling,
        drug_meaning(spelling) AS meaning
    FROM written
)

SELECT
    spelling,
    meaning.name,
    meaning.category,
    meaning.labels,
    meaning.mapped_ingredient,
    meaning.mapped_atc,
    coalesce(list_contains(settings.dropped, meaning.category), FALSE) AS dropped
FROM meant
CROSS JOIN settings
