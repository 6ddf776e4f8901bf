-- The drugs a model may learn: those of the training admissions.
--
-- Grain:  one row per drug
-- Key:    drug
-- Inputs: drug_names, raw.prescriptions, samples
-- Known:  when training starts
-- Source: MIMIC-IV v3.1, hosp.prescriptions
--
-- Built from the training split alone: a drug that only test patients got is not known beforehand. The
-- spellings are those of training orders, as written.

WITH labels AS (
    SELECT unnest(drugs) AS drug
    FROM samples
    WHERE split = 'train'
),

learned AS (
    SELECT
        drug,
        count(*) AS admissions
    FROM labels
    GROUP BY drug
),

written AS (
    SELECT DISTINCT drug AS spelling
    FROM raw.prescriptions
    SEMI JOIN samples ON samples.hadm_id = prescriptions.hadm_id AND samples.split = 'train'
    WHERE drug_type = 'MAIN'
)

SELECT
    learned.drug,
    any_value(learned.admissions) AS admissions,
    list(written.spelling ORDER BY written.spelling) AS spellings
FROM learned
INNER JOIN drug_names USING (drug)
INNER JOIN written USING (spelling)
GROUP BY learned.drug
ORDER BY admissions DESC, learned.drug ASC
