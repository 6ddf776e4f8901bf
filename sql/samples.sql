-- One sample per admission: what goes in, and the drugs that were prescribed.
--
-- Grain:  one row per stay with at least one diagnosis and one drug
-- Key:    hadm_id
-- Inputs: admissions, diagnoses, drug_lists, history, measurements, splits
-- Known:  after discharge: the diagnoses are coded then, the drugs are the answer
-- Source: MIMIC-IV v3.1, hosp
--
-- Whose stay has no diagnosis or no drug is counted in cohort.json, not here. What is not known is NULL:
-- previous_drugs is NULL where no earlier stay with drugs is on file.

WITH diagnosis_lists AS (
    SELECT
        hadm_id,
        list({'icd_code': icd_code, 'icd_version': icd_version, 'title': title} ORDER BY seq_num, icd_code, icd_version)
            AS diagnoses
    FROM diagnoses
    GROUP BY hadm_id
)

SELECT
    admissions.subject_id,
    admissions.hadm_id,
    splits.split,
    admissions.age,
    admissions.sex,
    admissions.race,
    admissions.admission_type,
    measurements.height_cm,
    measurements.weight_kg,
    measurements.bmi,
    measurements.systolic_mmhg,
    measurements.diastolic_mmhg,
    diagnosis_lists.diagnoses,
    drug_lists.drugs,
    history.previous_drugs
FROM admissions
INNER JOIN splits USING (subject_id)
INNER JOIN diagnosis_lists USING (hadm_id)
INNER JOIN drug_lists USING (hadm_id)
LEFT JOIN history USING (hadm_id)
LEFT JOIN measurements USING (hadm_id)
ORDER BY admissions.subject_id, admissions.admittime, admissions.hadm_id
