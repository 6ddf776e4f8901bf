-- The drugs a model may learn: those of the training admissions.
--
-- Grain:  one row per canonical drug
-- Key:    drug
-- Inputs: drug_names, raw.prescriptions, samples
-- Known:  when training starts
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- Built from the training split alone: a drug that only test patients got is not known beforehand. The
-- spellings are those of training orders, as written.

SELECT
    drug_names.drug,
    count(DISTINCT samples.hadm_id) AS admissions,
    list(DISTINCT drug_names.spelling ORDER BY drug_names.spelling) AS spellings
FROM samples
INNER JOIN raw.prescriptions AS orders USING (hadm_id)
INNER JOIN drug_names ON drug_names.spelling = orders.drug
WHERE samples.split = 'train'
    AND orders.drug_type = 'MAIN'
    AND drug_names.drug IS NOT NULL
GROUP BY drug_names.drug
ORDER BY admissions DESC, drug_names.drug ASC
