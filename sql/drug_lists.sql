-- The drugs of each stay as one list.
--
-- Grain:  one row per stay with a drug
-- Key:    hadm_id
-- Inputs: prescriptions
-- Known:  each drug from its first_order on
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- In the order of first prescription, then by name: many orders are written in one minute, as a set.

SELECT
    hadm_id,
    list({'drug': drug, 'first_order': first_order, 'due': due} ORDER BY first_order ASC NULLS LAST, drug ASC)
        AS ordered
FROM prescriptions
GROUP BY hadm_id
