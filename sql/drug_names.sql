-- The labels of each spelling whose category is kept.
--
-- Grain:  one row per spelling and label
-- Key:    spelling, drug
-- Inputs: spellings
-- Known:  always
-- Source: etl/drug_vocabulary.py
-- Enum:   drug

SELECT
    spelling,
    unnest(labels) AS drug
FROM spellings
WHERE NOT dropped
